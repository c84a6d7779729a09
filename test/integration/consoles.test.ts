/** Consoles of servers, looked at as their users do: through Nova's own proxies, with the tokens it hands out. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { z } from 'zod';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NOVA_CONF, NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, filesOf, run, waitForPing } from '../support/servers';

const PROXY_PORT = 6083;
const OPTIONS = `[serial_console]
enabled = true
serialproxy_host = 127.0.0.1
serialproxy_port = ${PROXY_PORT}
base_url = ws://127.0.0.1:${PROXY_PORT}/
[spice]
enabled = true
`;
const consoleSchema = z.object({ remote_console: z.object({ type: z.string(), url: z.string() }) });

/** Opens a WebSocket as browsers do. Rejects with the proxy's status when it refuses. */
async function openWebSocket(url: URL): Promise<Duplex> {
  const asking = request({
    host: url.hostname,
    port: url.port,
    path: `${url.pathname}${url.search}`,
    headers: {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      Origin: `http://${url.host}`,
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Protocol': 'binary',
      'Sec-WebSocket-Key': Buffer.from('prebake-console!').toString('base64'),
    },
  });
  return await new Promise((resolve, reject) => {
    asking.once('upgrade', (_response, socket) => resolve(socket));
    asking.once('response', (response) => reject(new Error(`refused: ${response.statusCode ?? '?'}`)));
    asking.once('error', reject);
    asking.end();
  });
}

/** A frame of a few bytes, masked with zeros. */
function frame(text: string): Buffer {
  return Buffer.concat([Buffer.of(0x82, 0x80 | text.length, 0, 0, 0, 0), Buffer.from(text)]);
}

describe('consoles', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let proxy: ChildProcess;
  let directory: string;
  let id: string;

  beforeAll(async () => {
    nova = await NovaApi.login();
    directory = await mkdtemp(join(tmpdir(), 'prebake-consoles-'));
    const more = join(directory, 'more.conf');
    await writeFile(more, OPTIONS);
    proxy = spawn(
      '/usr/bin/python3',
      ['/usr/bin/nova-serialproxy', '--config-file', join(CLOUD, 'etc', 'nova.conf'), '--config-file', more],
      { stdio: 'ignore' },
    );
    compute = await ComputeProcess.start({ configFiles: [NOVA_CONF, more] });
    await run(ALL_IN_ONE, ['discover-hosts']);
    id = await nova.create({
      name: 'consoles',
      image: await nova.imageId('tiny'),
      flavor: await nova.flavorId('m1.micro'),
    });
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));
  });
  afterAll(async () => {
    await nova.delete(id);
    await nova.waitForGone(id);
    await compute.stop();
    const ended = once(proxy, 'exit');
    proxy.kill();
    await ended;
    await rm(directory, { recursive: true });
  });

  async function openConsole(protocol: string, type: string): Promise<URL> {
    const url = `${nova.url('compute')}/servers/${id}/remote-consoles`;
    const { data } = await nova.http.post<unknown>(url, { remote_console: { protocol, type } });
    return new URL(consoleSchema.parse(data).remote_console.url);
  }

  async function loggedOutput(): Promise<string> {
    const shown = await nova.action(id, { 'os-getConsoleOutput': { length: null } });
    return z.object({ output: z.string() }).parse(shown).output;
  }

  async function connectInfo(url: URL) {
    const token = url.searchParams.get('token') ?? '';
    return z
      .object({ console: z.looseObject({ host: z.string(), port: z.number(), instance_uuid: z.string() }) })
      .parse(await nova.get('compute', `/os-console-auth-tokens/${token}`)).console;
  }

  // matrix: console.serial.interactive, console.serial.log
  it('a serial one takes what is typed, through the proxy, and is logged all the same, in files that rotate', async () => {
    const url = await openConsole('serial', 'serial');
    const socket = await waitFor(
      () => openWebSocket(url).catch(() => null),
      60_000,
      () => 'no proxy',
    );
    let seen = '';
    socket.on('data', (data: Buffer) => (seen += data.toString('latin1')));
    await waitFor(
      () => {
        socket.write(frame('\recho typed-$((6*7))\r'));
        return Promise.resolve(seen.includes('typed-42') ? true : null);
      },
      60_000,
      () => 'the guest does not answer on its serial console',
    );
    expect(await loggedOutput()).toMatch(/tiny: Linux/);
    // More than libvirt keeps in one file.
    socket.write(frame('\ryes $(seq 200)|head -c 2100000;echo over-$((6*7))\r'));
    await waitFor(
      () => Promise.resolve(seen.includes('echo over-$((6*7))') ? true : null),
      60_000,
      () => 'the guest does not echo what it is to write',
    );
    socket.destroy();
    await waitFor(
      async () => ((await loggedOutput()).includes('over-42') ? true : null),
      180_000,
      () => 'the guest does not get to the end of what it writes',
    );
    expect(await filesOf(id)).toContain('console.log.0');
    // Nova shows 100 KiB, less what is no text: more than the newest file has.
    const shown = (await loggedOutput()).length;
    expect(shown).toBeGreaterThan(90 * 1024);
    expect(shown).toBeLessThanOrEqual(100 * 1024);
  });

  it('a serial one is closed to whoever has no token', async () => {
    const url = new URL(`ws://127.0.0.1:${PROXY_PORT}/?token=b2c3d4e5-0000-4000-8000-000000000000`);
    const refused = openWebSocket(url).then(
      (socket) => once(socket, 'close').then(() => 'closed'),
      () => 'refused',
    );
    expect(['closed', 'refused']).toContain(await refused);
  });

  // matrix: console.spice
  it('a SPICE one listens where the token says', async () => {
    const { host, port, instance_uuid } = await connectInfo(await openConsole('spice', 'spice-html5'));
    expect(instance_uuid).toBe(id);
    const socket = connect({ host, port });
    await once(socket, 'connect');
    // A link message too short to be one: SPICE answers it with an error, in its own format.
    const hello = Buffer.alloc(16);
    hello.write('REDQ');
    hello.writeUInt32LE(2, 4);
    hello.writeUInt32LE(2, 8);
    socket.write(hello);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    expect(answer.subarray(0, 4).toString()).toBe('REDQ');
  });

  it.each([
    ['rdp', 'rdp-html5'],
    ['mks', 'webmks'],
  ])('one of type %s is refused by name', async (protocol, type) => {
    await expect(openConsole(protocol, type)).rejects.toMatchObject({
      response: {
        status: 400,
        data: { badRequest: { message: `Unavailable console type ${type}.` } },
      },
    });
  });

  it('that of a stopped server is not there', async () => {
    await nova.action(id, { 'os-stop': null });
    await nova.waitForStatus(id, 'SHUTOFF');
    await expect(openConsole('spice', 'spice-html5')).rejects.toMatchObject({ response: { status: 409 } });
  });
});
