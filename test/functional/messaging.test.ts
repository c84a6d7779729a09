/** The messaging over a real RabbitMQ: as nova-compute was recorded to use it, and through the broker's restarts. */
import { connect, type ChannelModel, type ConsumeMessage } from 'amqplib';
import pino from 'pino';
import { ImageNotFound } from '../../lib/exceptions';
import {
  isRemoteError,
  Messaging,
  MessagingClosed,
  MessagingTimeout,
  RequestContext,
  type Endpoint,
  type MessagingState,
  type RpcHandler,
} from '../../lib/messaging';
import { PrivateRabbitmq } from '../support/rabbitmq';
import { recordedMessages } from '../support/rpc-recordings';
import { until } from './support/until';

jest.setTimeout(120_000);

const context = RequestContext.admin('req-test');
const PEER = { topic: 'peer', version: '1.0' };

let rabbit: PrivateRabbitmq;
const opened: Messaging[] = [];
let log: Record<string, unknown>[];

beforeAll(async () => {
  rabbit = await PrivateRabbitmq.start();
});

afterAll(() => rabbit.stop());

beforeEach(() => {
  log = [];
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map((messaging) => messaging.close()));
});

async function open(name: string, transportUrl = rabbit.url, heartbeatS = 60): Promise<Messaging> {
  const logger = pino(
    { level: 'debug' },
    { write: (line: string) => log.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const messaging = await Messaging.connect({ transportUrl, connectionName: name, heartbeatS, logger });
  opened.push(messaging);
  return messaging;
}

function endpoint(methods: Readonly<Record<string, RpcHandler>>): Endpoint {
  return { versions: ['1.2'], methods: new Map(Object.entries(methods)) };
}

function serve(
  messaging: Messaging,
  methods: Readonly<Record<string, RpcHandler>>,
  topic = 'peer',
  servedWhileStopping: readonly string[] = [],
) {
  return messaging.serve({ topic, host: 'host', endpoints: [endpoint(methods)], servedWhileStopping });
}

/** A promise to be resolved by the test, and one that tells when somebody began to wait for it. */
function gate<T>() {
  let open: (value: T) => void = () => undefined;
  let enter: () => void = () => undefined;
  const opened = new Promise<T>((resolve) => (open = resolve));
  const entered = new Promise<void>((resolve) => (enter = resolve));
  const pass = () => {
    enter();
    return opened;
  };
  return { pass, entered, open };
}

function stateOf(messaging: Messaging, wanted: MessagingState): Promise<void> {
  return new Promise((resolve) => {
    if (messaging.state === wanted) resolve();
    const off = messaging.onState((state) => {
      if (state !== wanted) return;
      off();
      resolve();
    });
  });
}

async function withRaw<T>(work: (model: ChannelModel) => Promise<T>): Promise<T> {
  const model = await connect(rabbit.url.replace('rabbit:', 'amqp:'));
  try {
    return await work(model);
  } finally {
    await model.close();
  }
}

function body(message: ConsumeMessage): Record<string, unknown> {
  const envelope = JSON.parse(message.content.toString()) as Record<string, string>;
  expect(envelope['oslo.version']).toBe('2.0');
  return JSON.parse(envelope['oslo.message'] ?? '') as Record<string, unknown>;
}

function request(fields: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.from(JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': JSON.stringify(fields) }));
}

describe('as recorded', () => {
  test('exchanges, queues, bindings, consumers, confirms and names', async () => {
    const messaging = await open('nova-compute:1:x');
    const server = await serve(messaging, {}, 'compute');
    const anonymous = (rows: string[][]) =>
      rows.map((row) => row.map((cell) => cell.replace(/_[0-9a-f]{32}$/, '_<hex>'))).sort();
    const expires = '[{"x-expires",1800000}]';
    expect(
      anonymous(await rabbit.list('list_queues', 'name', 'durable', 'auto_delete', 'arguments', 'consumers')),
    ).toEqual([
      ['compute', 'false', 'false', '[]', '1'],
      ['compute.host', 'false', 'false', '[]', '1'],
      ['compute_fanout_<hex>', 'false', 'false', expires, '1'],
      ['reply_<hex>', 'false', 'false', expires, '1'],
    ]);
    const exchanges = await rabbit.list('list_exchanges', 'name', 'type', 'durable', 'auto_delete');
    expect(exchanges.filter(([name]) => name !== '' && !name?.startsWith('amq.')).sort()).toEqual([
      ['compute_fanout', 'fanout', 'false', 'true'],
      ['nova', 'topic', 'false', 'false'],
    ]);
    const bindings = await rabbit.list('list_bindings', 'source_name', 'destination_name', 'routing_key');
    expect(anonymous(bindings.filter(([source]) => source !== ''))).toEqual([
      ['compute_fanout', 'compute_fanout_<hex>', 'compute'],
      ['nova', 'compute', 'compute'],
      ['nova', 'compute.host', 'compute.host'],
    ]);
    const channels = await rabbit.list('list_channels', 'confirm', 'prefetch_count', 'consumer_count');
    expect(channels.sort()).toEqual([
      ['false', '0', '1'],
      ['false', '0', '3'],
      ['true', '0', '0'],
    ]);
    const connections = await rabbit.list('list_connections', 'client_properties', 'timeout', 'frame_max');
    expect(connections).toHaveLength(2);
    for (const [properties, ...limits] of connections) {
      expect(properties).toContain('{"connection_name","nova-compute:1:x"}');
      expect(limits).toEqual(['60', '131072']);
    }

    await server.stop();
    expect(anonymous(await rabbit.list('list_queues', 'name', 'consumers'))).toEqual([
      ['compute', '0'],
      ['compute.host', '0'],
      ['reply_<hex>', '1'],
    ]);
  });

  test('calls, casts and fanouts', async () => {
    const messaging = await open('client');
    await withRaw(async (model) => {
      const channel = await model.createChannel();
      await channel.assertExchange('nova', 'topic', { durable: false });
      await channel.assertExchange('scheduler_fanout', 'fanout', { durable: false, autoDelete: true });
      await channel.assertQueue('raw', { durable: false, autoDelete: true });
      await channel.bindQueue('raw', 'nova', 'conductor');
      await channel.bindQueue('raw', 'scheduler_fanout', 'scheduler');
      const received: ConsumeMessage[] = [];
      const three = new Promise<void>((resolve) => {
        void channel.consume('raw', (message) => {
          if (message !== null) received.push(message);
          if (received.length === 3) resolve();
        });
      });
      const target = { topic: 'conductor', version: '1.0', namespace: 'baseapi' };
      const call = messaging.call(target, 'ping', { arg: 'x' }, { context, timeoutMs: 10_000 });
      await messaging.cast({ topic: 'conductor', version: '1.2' }, 'build_instances', {}, { context });
      await messaging.fanout({ topic: 'scheduler', version: '4.2' }, 'sync_instance_info', {}, { context });
      await three;
      const [ping, cast, fanout] = received;
      if (ping === undefined || cast === undefined || fanout === undefined) throw new Error('not received');

      const recorded = (method: string) => {
        const found = recordedMessages.find(({ message }) => message.method === method);
        if (found === undefined) throw new Error(`${method} was not recorded`);
        return found;
      };
      const properties = (message: ConsumeMessage) =>
        Object.fromEntries(
          Object.entries({
            expiration: message.properties.expiration as unknown,
            priority: message.properties.priority as unknown,
            delivery_mode: message.properties.deliveryMode as unknown,
            headers: message.properties.headers,
            content_encoding: message.properties.contentEncoding as unknown,
            content_type: message.properties.contentType as unknown,
            reply_to: message.properties.replyTo as unknown,
            correlation_id: message.properties.correlationId as unknown,
            message_id: message.properties.messageId as unknown,
          }).filter(([, value]) => value !== undefined),
        );
      expect(properties(ping)).toEqual(recorded('ping').properties);
      expect(Object.keys(body(ping)).sort()).toEqual(Object.keys(recorded('ping').message).sort());
      expect(properties(fanout)).toEqual(recorded('sync_instance_info').properties);
      expect(fanout.fields).toMatchObject({ exchange: 'scheduler_fanout', routingKey: '' });
      expect({ ...properties(cast), expiration: '10000' }).toEqual(recorded('ping').properties);
      expect(cast.properties.expiration).toBeUndefined();
      expect(body(cast)).not.toHaveProperty('_msg_id');
      expect(body(cast)).not.toHaveProperty('namespace');

      // Old servers answer in two messages.
      const { _msg_id: msgId, _reply_q: replyQueue } = body(ping) as { _msg_id: string; _reply_q: string };
      const answer = (fields: object) =>
        channel.sendToQueue(replyQueue, request({ _msg_id: msgId, failure: null, ...fields }));
      answer({ result: { service: 'conductor' }, ending: false, _unique_id: '1' });
      answer({ result: null, ending: true, _unique_id: '2' });
      await expect(call).resolves.toEqual({ service: 'conductor' });
    });
  });
});

describe('serving', () => {
  test('answers calls for the host, for any host and for all hosts', async () => {
    const server = await open('server');
    const heard: unknown[] = [];
    const three = gate<undefined>();
    await serve(server, {
      echo: (from, args, call) => Promise.resolve({ args, call, requestId: from.requestId }),
      note: (_from, args) => {
        heard.push(args.n);
        if (heard.length === 3) three.open(undefined);
        return Promise.resolve();
      },
    });
    const client = await open('client');
    await expect(
      client.call({ ...PEER, server: 'host' }, 'echo', { a: [1, null, 'µ'] }, { context, timeoutMs: 5000 }),
    ).resolves.toEqual({
      args: { a: [1, null, 'µ'] },
      call: { kind: 'call', method: 'echo', version: '1.0' },
      requestId: 'req-test',
    });
    await client.cast(PEER, 'note', { n: 1 }, { context });
    await client.cast({ ...PEER, server: 'host' }, 'note', { n: 2 }, { context });
    await client.fanout(PEER, 'note', { n: 3 }, { context });
    await three.pass();
    expect(heard.sort()).toEqual([1, 2, 3]);
    await expect(client.call(PEER, 'note', { n: 4 }, { context, timeoutMs: 5000 })).resolves.toBeNull();
  });

  test('answers failures by class, and what it does not have', async () => {
    const server = await open('server');
    await serve(server, {
      missing: () => Promise.reject(new ImageNotFound('no image x')),
      broken: () => Promise.reject(new TypeError('secret detail')),
      circular: () => {
        const value: Record<string, unknown> = {};
        value.self = value;
        return Promise.resolve(value);
      },
    });
    const client = await open('client');
    const failureOf = async (method: string, version = '1.0') => {
      const error: unknown = await client
        .call({ ...PEER, version }, method, {}, { context, timeoutMs: 5000 })
        .catch((reason: unknown) => reason);
      if (!isRemoteError(error)) throw new Error('no remote error', { cause: error });
      return error;
    };
    expect(await failureOf('missing')).toMatchObject({
      remoteClass: 'ImageNotFound',
      remoteModule: 'nova.exception',
      message: 'no image x',
      kwargs: { code: 404 },
    });
    expect((await failureOf('broken')).message).not.toContain('secret');
    expect((await failureOf('circular')).remoteClass).toBe('Exception');
    expect((await failureOf('other')).remoteClass).toBe('NoSuchMethod');
    expect((await failureOf('missing', '1.3')).remoteClass).toBe('UnsupportedVersion');
  });

  test('drops what comes twice and what cannot be read, and goes on', async () => {
    const server = await open('server');
    const heard: unknown[] = [];
    const last = gate<undefined>();
    await serve(server, {
      note: (_from, args) => {
        heard.push(args.n);
        if (args.n === 'last') last.open(undefined);
        return Promise.resolve();
      },
    });
    await withRaw(async (model) => {
      const channel = await model.createConfirmChannel();
      const send = (content: Buffer) => channel.publish('nova', 'peer.host', content);
      const first = request({ method: 'note', args: { n: 1 }, _unique_id: 'one' });
      send(first);
      send(first);
      for (const odd of ['', '{', '[]', '{"oslo.version":"2.0","oslo.message":"7"}']) send(Buffer.from(odd));
      send(request({ method: 7 }));
      send(request({ method: 'note', args: { n: 'last' }, _unique_id: 'two' }));
      await channel.waitForConfirms();
      await last.pass();
    });
    expect(heard).toEqual([1, 'last']);
    await until('everything is acknowledged', async () => {
      const queues = await rabbit.list('list_queues', 'name', 'messages');
      return queues.find(([name]) => name === 'peer.host')?.[1] === '0';
    });
  });

  test('ends after the running requests are answered, and leaves the others in their queue', async () => {
    const server = await open('server');
    const slow = gate<string>();
    const news = gate<undefined>();
    const later = gate<undefined>();
    const methods = { slow: slow.pass, news: news.pass, later: () => Promise.reject(new Error('too late')) };
    const running = await serve(server, methods, 'peer', ['news']);
    const client = await open('client');
    const answer = client.call({ ...PEER, server: 'host' }, 'slow', {}, { context, timeoutMs: 20_000 });
    await slow.entered;
    let stopped = false;
    const stopping = running.stop().then(() => (stopped = true));
    await client.cast({ ...PEER, server: 'host' }, 'later', {}, { context });
    // What a running request waits for gets through, even behind others.
    await client.cast({ ...PEER, server: 'host' }, 'news', {}, { context });
    await news.entered;
    news.open(undefined);
    expect(stopped).toBe(false);
    slow.open('done');
    await expect(answer).resolves.toBe('done');
    await stopping;

    const again = await open('again');
    await serve(again, { later: later.pass });
    await later.entered;
    later.open(undefined);
  });
});

describe('calling', () => {
  test('waits for a server that comes later', async () => {
    const client = await open('client');
    const answer = client.call(
      { topic: 'late', version: '1.0' },
      'hello',
      {},
      { context, timeoutMs: 20_000 },
    );
    const server = await open('server');
    await serve(server, { hello: () => Promise.resolve('hi') }, 'late');
    await expect(answer).resolves.toBe('hi');
  });

  test('ends in time, and says whether anybody listened', async () => {
    const client = await open('client');
    const options = { context, timeoutMs: 700 };
    await expect(client.call({ topic: 'nobody', version: '1.0' }, 'x', {}, options)).rejects.toThrow(
      /no answer to x of nobody/,
    );
    const server = await open('server');
    const slow = gate<null>();
    await serve(server, { slow: slow.pass });
    const error: unknown = await client.call(PEER, 'slow', {}, options).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(MessagingTimeout);
    slow.open(null);
  });

  test('ends when the messaging is closed', async () => {
    const client = await open('client');
    const server = await open('server');
    const slow = gate<null>();
    await serve(server, { slow: slow.pass });
    const answer = client.call(PEER, 'slow', {}, { context, timeoutMs: 20_000 });
    const rejected = expect(answer).rejects.toBeInstanceOf(MessagingClosed);
    await slow.entered;
    await client.close();
    await rejected;
    expect(client.state).toBe('closed');
    await expect(client.call(PEER, 'slow', {}, { context, timeoutMs: 1 })).rejects.toBeInstanceOf(
      MessagingClosed,
    );
    slow.open(null);
  });

  test('is kept up by signs of life, and given up without them', async () => {
    const server = await open('server');
    const slow = gate<string>();
    await serve(server, { slow: slow.pass });
    const client = await open('client');
    const begin = Date.now();
    const answer = client.call(PEER, 'slow', {}, { context, timeoutMs: 60_000, monitorTimeoutMs: 2000 });
    setTimeout(() => slow.open('at last'), 5000);
    await expect(answer).resolves.toBe('at last');
    expect(Date.now() - begin).toBeGreaterThan(4500);

    await withRaw(async (model) => {
      const channel = await model.createChannel();
      await channel.assertQueue('silent', { durable: false, autoDelete: true });
      await channel.bindQueue('silent', 'nova', 'silent');
      await expect(
        client.call(
          { topic: 'silent', version: '1.0' },
          'x',
          {},
          { context, timeoutMs: 60_000, monitorTimeoutMs: 1000 },
        ),
      ).rejects.toThrow('no answer to x of silent in 1000 ms');
    });
  });
});

describe("the broker's restart", () => {
  test('loses no answer to a call whose request was taken', async () => {
    const server = await open('server');
    const slow = gate<string>();
    let runs = 0;
    await serve(server, {
      slow: () => {
        runs += 1;
        return slow.pass();
      },
    });
    const client = await open('client');
    const answer = client.call({ ...PEER, server: 'host' }, 'slow', {}, { context, timeoutMs: 60_000 });
    await slow.entered;
    await rabbit.stopBroker();
    await Promise.all([stateOf(server, 'reconnecting'), stateOf(client, 'reconnecting')]);
    // The handler ends while there is no broker, and more is asked and sent.
    slow.open('survived');
    const second = client.call(PEER, 'slow', {}, { context, timeoutMs: 60_000 });
    const cast = client.cast(PEER, 'slow', {}, { context });
    await rabbit.startBroker();
    await expect(answer).resolves.toBe('survived');
    await expect(second).resolves.toBe('survived');
    await cast;
    await until('the cast is heard', () => runs === 3);
    const names = (await rabbit.list('list_queues', 'name')).flat();
    expect(names.filter((name) => name.startsWith('peer_fanout_'))).toHaveLength(1);
    expect(names.filter((name) => name.startsWith('reply_'))).toHaveLength(2);
  });

  test('a sudden one neither', async () => {
    const server = await open('server');
    const slow = gate<string>();
    await serve(server, { slow: slow.pass });
    const client = await open('client');
    const answer = client.call({ ...PEER, server: 'host' }, 'slow', {}, { context, timeoutMs: 60_000 });
    await slow.entered;
    await rabbit.stopBroker('SIGKILL');
    slow.open('survived');
    await rabbit.startBroker();
    await expect(answer).resolves.toBe('survived');
  });

  test('is waited for with longer and longer pauses', async () => {
    const client = await open('client');
    await rabbit.stopBroker();
    const pauses = () =>
      log.filter((line) => line.purpose === 'publishing').flatMap((line) => (line.retryInMs ?? []) as number);
    await until('four attempts failed', () => pauses().length >= 4);
    const states: MessagingState[] = [];
    client.onState((state) => states.push(state));
    const back = stateOf(client, 'connected');
    await rabbit.startBroker();
    await back;
    const [first = 0, second = 0, third = 0, fourth = 0] = pauses();
    expect(first).toBeGreaterThanOrEqual(125);
    expect(first).toBeLessThanOrEqual(250);
    expect(second).toBeGreaterThanOrEqual(250);
    expect(third).toBeGreaterThanOrEqual(500);
    expect(fourth).toBeGreaterThanOrEqual(1000);
    expect(states).toEqual(['connected']);
    expect(JSON.stringify(log)).not.toContain('guest:guest');
  });
});

test('a broker that hangs is given up, and nothing is lost by it', async () => {
  const server = await open('server', rabbit.url, 1);
  let runs = 0;
  await serve(server, { hello: () => Promise.resolve((runs += 1)) });
  const client = await open('client', rabbit.url, 1);
  rabbit.freeze(true);
  const answer = client.call(PEER, 'hello', {}, { context, timeoutMs: 60_000 });
  await Promise.all([stateOf(server, 'reconnecting'), stateOf(client, 'reconnecting')]);
  rabbit.freeze(false);
  await expect(answer).resolves.toBe(1);
  expect(runs).toBe(1);
});

test('a cluster is tried host by host', async () => {
  const client = await open(
    'client',
    `rabbit://guest:guest@127.0.0.1:1,${rabbit.url.slice('rabbit://'.length)}`,
  );
  expect(client.state).toBe('connected');
  expect(log.filter((line) => line.level === 40).map((line) => line.broker)).toEqual([
    '127.0.0.1:1',
    '127.0.0.1:1',
  ]);
});

test('a connection that is not wanted any more is not waited for', async () => {
  const controller = new AbortController();
  const connecting = Messaging.connect({
    transportUrl: 'rabbit://127.0.0.1:1/',
    connectionName: 'x',
    heartbeatS: 60,
    logger: pino({ level: 'silent' }),
    signal: controller.signal,
  });
  controller.abort();
  await expect(connecting).rejects.toBeInstanceOf(MessagingClosed);
});
