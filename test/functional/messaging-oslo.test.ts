/** This messaging and the real oslo.messaging understand each other, in both directions. */
import pino from 'pino';
import { ImageNotFound } from '../../lib/exceptions';
import { isRemoteError, Messaging, RequestContext, type RpcHandler } from '../../lib/messaging';
import { OsloPeer } from '../support/oslo-peer';
import { PrivateRabbitmq } from '../support/rabbitmq';

jest.setTimeout(120_000);

const context = RequestContext.admin('req-ours');

let rabbit: PrivateRabbitmq;
let ours: Messaging;

beforeAll(async () => {
  rabbit = await PrivateRabbitmq.start();
  ours = await Messaging.connect({
    transportUrl: rabbit.url,
    connectionName: 'ours',
    heartbeatS: 60,
    logger: pino({ level: 'silent' }),
  });
});

afterAll(async () => {
  await ours.close();
  await rabbit.stop();
});

describe('an oslo server', () => {
  const target = { topic: 'peer', server: 'host', version: '3.1' };
  let peer: OsloPeer;

  beforeAll(async () => {
    peer = await OsloPeer.start('server', rabbit.url);
  });

  afterAll(() => peer.stop());

  test('answers our call, with our context', async () => {
    const value = { text: 'µ', list: [1, 2.5, null, true] };
    await expect(ours.call(target, 'echo', { value }, { context, timeoutMs: 20_000 })).resolves.toEqual({
      value,
      request_id: 'req-ours',
    });
  });

  test('fails with its class and module', async () => {
    const error: unknown = await ours
      .call(target, 'fail', { host: 'h' }, { context, timeoutMs: 20_000 })
      .catch((reason: unknown) => reason);
    expect(isRemoteError(error, 'ComputeHostNotFound')).toBe(true);
    expect(error).toMatchObject({
      remoteModule: 'nova.exception',
      message: 'Compute host h could not be found.',
      kwargs: { host: 'h', code: 404 },
    });
    const unserved = ours.call({ ...target, version: '3.3' }, 'echo', {}, { context, timeoutMs: 20_000 });
    await expect(unserved).rejects.toMatchObject({ remoteClass: 'UnsupportedVersion' });
  });

  test('gives signs of life', async () => {
    const options = { context, timeoutMs: 60_000, monitorTimeoutMs: 2000 };
    await expect(ours.call(target, 'slow', { seconds: 4 }, options)).resolves.toBe('slept');
  });

  test('hears our casts and fanouts', async () => {
    await ours.cast(target, 'note', { value: 'cast' }, { context });
    await expect(peer.next()).resolves.toEqual({ noted: 'cast' });
    await ours.fanout({ topic: 'peer', version: '3.0' }, 'note', { value: 'all' }, { context });
    await expect(peer.next()).resolves.toEqual({ noted: 'all' });
  });
});

describe('an oslo client', () => {
  const request = { kind: 'call', topic: 'compute', server: 'host', version: '6.0', timeout: 20 } as const;
  let peer: OsloPeer;
  let noted: (value: unknown) => void = () => undefined;

  beforeAll(async () => {
    peer = await OsloPeer.start('client', rabbit.url);
    const methods = new Map<string, RpcHandler>([
      ['echo', (from, args) => Promise.resolve({ args, requestId: from.requestId })],
      ['missing', () => Promise.reject(new ImageNotFound('no image x'))],
      ['broken', () => Promise.reject(new TypeError('inside'))],
      ['slow', () => new Promise((resolve) => setTimeout(() => resolve('slept'), 4000))],
      [
        'note',
        (_from, args) => {
          noted(args.value);
          return Promise.resolve();
        },
      ],
      [
        'relay',
        () =>
          ours.call({ topic: 'peer', version: '3.0' }, 'fail', { host: 'h' }, { context, timeoutMs: 9000 }),
      ],
    ]);
    await ours.serve({ topic: 'compute', host: 'host', endpoints: [{ versions: ['6.1'], methods }] });
  });

  afterAll(() => peer.stop());

  test('gets our answer', async () => {
    await expect(peer.ask({ ...request, method: 'echo', args: { a: 'µ' } })).resolves.toEqual({
      result: { args: { a: 'µ' }, requestId: 'req-peer' },
    });
  });

  test("re-raises our exception as Nova's", async () => {
    const { error } = await peer.ask({ ...request, method: 'missing', args: {} });
    expect(error).toMatchObject({
      class: 'ImageNotFound_Remote',
      module: 'nova.exception_Remote',
      code: 404,
      not_found: true,
    });
    expect((error as { text: string }).text).toContain('no image x');
  });

  test('re-raises what it sent us itself', async () => {
    const server = await OsloPeer.start('server', rabbit.url);
    try {
      const { error } = await peer.ask({ ...request, method: 'relay', args: {} });
      expect(error).toMatchObject({ class: 'ComputeHostNotFound_Remote', not_found: true });
    } finally {
      await server.stop();
    }
  });

  test('learns of other failures no more than that', async () => {
    const { error } = await peer.ask({ ...request, method: 'broken', args: {} });
    expect(error).toMatchObject({ class: 'Exception', module: 'builtins' });
    expect(JSON.stringify(error)).not.toContain('inside');
    const unserved = await peer.ask({ ...request, method: 'nothing', args: {} });
    expect(unserved.error).toMatchObject({ class: 'RemoteError', remote: 'NoSuchMethod' });
  });

  test('sees our signs of life', async () => {
    await expect(
      peer.ask({ ...request, method: 'slow', args: {}, timeout: 60, monitor: 2 }),
    ).resolves.toEqual({ result: 'slept' });
  });

  test('casts to one and to all', async () => {
    for (const fanout of [false, true]) {
      const heard = new Promise((resolve) => (noted = resolve));
      const answer = await peer.ask({
        kind: 'cast',
        topic: 'compute',
        ...(fanout ? { fanout } : { server: 'host' }),
        version: '6.0',
        method: 'note',
        args: { value: fanout },
      });
      expect(answer).toEqual({ result: null });
      await expect(heard).resolves.toBe(fanout);
    }
  });
});
