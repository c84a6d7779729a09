/** The host's end of the gate, against a guest that says whatever a test wants. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { GateClient } from '../../lib/bake/gate';
import {
  GateClosed,
  GateError,
  GateProtocolError,
  GateStepFailed,
  GateTimeout,
} from '../../lib/bake/gate-errors';
import { buildIdentifyMessage } from '../../lib/bake/identify';

const CALL = { timeoutMs: 5_000 };
const MESSAGE = buildIdentifyMessage(
  {
    uuid: '6a3c1f0e-1f6b-4c3a-9f57-0d7b8c3f2a11',
    hostname: 'web',
    publicKeys: [],
    adminPassword: null,
    userData: null,
    files: [],
    configDrive: true,
  },
  [],
  { vcpus: 1, hotplugMemoryMb: 0, rootBytes: 1, disks: [] },
);
const READY = { event: 'ready', vcpus: 4, memoryMb: 1500, rootBytes: 10, stepsMs: { clock: 1 } };
const requestSchema = z.looseObject({ op: z.string(), id: z.string() });
type Request = z.infer<typeof requestSchema>;

describe('GateClient', () => {
  let directory: string;
  let path: string;
  let server: Server;
  let guest: Socket;
  let gate: GateClient;
  let onRequest: (request: Request) => void;

  const say = (message: unknown): void => void guest.write(`${JSON.stringify(message)}\n`);

  beforeEach(async () => {
    onRequest = () => undefined;
    directory = await mkdtemp(join(tmpdir(), 'prebake-gate-'));
    path = join(directory, 'gate');
    server = createServer().listen(path);
    const connected = once(server, 'connection') as Promise<[Socket]>;
    gate = await GateClient.connect(path, { deadlineMs: 1000 });
    [guest] = await connected;
    createInterface({ input: guest }).on('line', (line) => {
      onRequest(requestSchema.parse(JSON.parse(line)));
    });
  });
  afterEach(async () => {
    gate.close();
    guest.destroy();
    server.close();
    await rm(directory, { recursive: true });
  });

  it('hears hello', async () => {
    onRequest = ({ op, id }) => {
      if (op === 'hello') say({ event: 'hello', id, gate: 'abc', kind: 'python', uptimeS: 12.5 });
    };
    await expect(gate.waitHello(CALL)).resolves.toEqual({ gate: 'abc', kind: 'python', uptimeS: 12.5 });
  });

  it('waits for a channel that appears later, and not for ever', async () => {
    const later = join(directory, 'later');
    await expect(GateClient.connect(later, { deadlineMs: 50 })).rejects.toThrow(GateTimeout);
    const connecting = GateClient.connect(later, { deadlineMs: 5000 });
    const second = createServer((socket) => socket.resume()).listen(later);
    (await connecting).close();
    second.close();
  });

  it('stops connecting when told so', async () => {
    const controller = new AbortController();
    const connecting = GateClient.connect(join(directory, 'never'), {
      deadlineMs: 5000,
      signal: controller.signal,
    });
    controller.abort();
    await expect(connecting).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('tells identity, ready and done apart, with time and entropy of their own each time', async () => {
    const requests: Request[] = [];
    onRequest = (request) => {
      requests.push(request);
      say({ event: 'identity', id: 'another guest', stepsMs: {} });
      say({ event: 'identity', id: request.id, stepsMs: { clock: 3 } });
      say({ ...READY, id: request.id });
      say({ event: 'done', id: request.id, stepsMs: {} });
    };
    for (let round = 0; round < 2; round += 1) {
      const identification = gate.identify(MESSAGE, { ...CALL, doneTimeoutMs: 5000 });
      await identification.sent;
      await expect(identification.identity).resolves.toEqual({ clock: 3 });
      await expect(identification.ready).resolves.toEqual({
        vcpus: 4,
        memoryMb: 1500,
        rootBytes: 10,
        stepsMs: { clock: 1 },
      });
      await expect(identification.done).resolves.toEqual({});
    }
    const [first, second] = requests;
    expect(first?.['entropy']).not.toBe(second?.['entropy']);
    expect(Math.abs(Number(first?.['timeMs']) - Date.now())).toBeLessThan(10_000);
    expect(first).toMatchObject({ op: 'identify', hostname: 'web' });
  });

  it('names the step that failed, without control characters', async () => {
    onRequest = ({ id }) => say({ event: 'error', id, step: 'disk', reason: 'no\u001b[31m space\n' });
    const identification = gate.identify(MESSAGE, { ...CALL, doneTimeoutMs: 5000 });
    await expect(identification.ready).rejects.toThrow(GateStepFailed);
    await expect(identification.identity).rejects.toThrow('the guest failed at disk: no [31m space ');
  });

  it('gives up on a guest that is silent', async () => {
    await expect(gate.seal([], { timeoutMs: 30 })).rejects.toThrow(GateTimeout);
  });

  it('gives up when told so', async () => {
    const controller = new AbortController();
    const asking = gate.ask({ ...CALL, signal: controller.signal });
    onRequest = () => {
      controller.abort(new Error('deleted'));
    };
    await expect(asking).rejects.toThrow(GateError);
  });

  it('reports a channel that ends', async () => {
    onRequest = () => guest.destroy();
    await expect(gate.ask(CALL)).rejects.toThrow(GateClosed);
    await expect(gate.ask(CALL)).rejects.toThrow(GateClosed);
  });

  it.each([
    ['no JSON', 'login: \n'],
    ['unknown words', '{"event":"shutdown","id":"x"}\n'],
    ['a wrong type', '{"event":"sealed","id":"x","stepsMs":{"a":"b"}}\n'],
    ['a line without end', 'x'.repeat(70_000)],
  ])('believes nothing more of a guest that says %s', async (_what, bytes) => {
    onRequest = () => void guest.write(bytes);
    await expect(gate.ask(CALL)).rejects.toThrow(GateProtocolError);
  });
});
