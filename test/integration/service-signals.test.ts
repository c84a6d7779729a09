/** The service as systemd and its operator handle it: readiness, reload, an end in peace and one without. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NOVA_CONF, NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run, traces } from '../support/servers';

/** A datagram socket as systemd's: Node has none. */
const LISTEN_TO_NOTIFICATIONS = `
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
print("listening", flush=True)
while True:
    print(listener.recv(4096).decode(), flush=True)
`;

describe('the service under signals', () => {
  let directory: string;
  let logFile: string;
  let settings: string;
  let nova: NovaApi;
  let compute: ComputeProcess;
  let systemd: ChildProcess;
  let notified = '';
  let image: string;
  let flavor: string;
  const servers: string[] = [];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'prebake-signals-'));
    logFile = join(directory, 'service.log');
    settings = join(directory, 'settings.conf');
    await configure('');
    const socket = join(directory, 'notify');
    systemd = spawn('/usr/bin/python3', ['-c', LISTEN_TO_NOTIFICATIONS, socket], { stdio: 'pipe' });
    systemd.stdout?.on('data', (chunk: Buffer) => (notified += chunk.toString()));
    await waitFor(
      () => Promise.resolve(notified === '' ? null : true),
      10_000,
      () => 'nobody listens',
    );
    nova = await NovaApi.login();
    compute = await start({ NOTIFY_SOCKET: socket });
    await run(ALL_IN_ONE, ['discover-hosts']);
    [image, flavor] = await Promise.all([nova.imageId('tiny'), nova.flavorId('m1.nano')]);
  });
  afterAll(async () => {
    compute = await start();
    for (const id of servers) {
      await nova.delete(id);
      await nova.waitForGone(id);
      expect(await traces(nova, { id })).toEqual([]);
    }
    await compute.stop();
    const ended = once(systemd, 'exit');
    systemd.kill();
    await ended;
    await rm(directory, { recursive: true });
  });

  /** What the operator has in a file beside nova.conf. */
  async function configure(more: string): Promise<void> {
    await writeFile(settings, `[DEFAULT]\nlog_file = ${logFile}\n${more}`);
  }

  function start(environment: Record<string, string> = {}): Promise<ComputeProcess> {
    return ComputeProcess.start({ configFiles: [NOVA_CONF, settings], environment });
  }

  async function logged(pattern: RegExp): Promise<string> {
    return waitFor(
      async () => pattern.exec(await readFile(logFile, 'utf8'))?.[0] ?? null,
      30_000,
      () => `the log has no ${String(pattern)}`,
    );
  }

  async function agent(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    process.kill(Number(await readFile(join(CLOUD, 'run', 'neutron-linuxbridge.pid'), 'utf8')), signal);
  }

  /** A new server whose boot has begun. */
  async function boot(name: string): Promise<string> {
    const id = await nova.create({ name, image, flavor });
    servers.push(id);
    await waitFor(
      async () => compute.boot(id),
      60_000,
      () => 'no boot began',
    );
    return id;
  }

  test('tells systemd when it is up, and logs as nova-compute does', async () => {
    await waitFor(
      () => Promise.resolve(notified.includes('READY=1') ? true : null),
      10_000,
      () => `systemd heard: ${notified}`,
    );
    await logged(
      /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ INFO prebake\.compute \[-\] compute service is up/m,
    );
  });

  test('takes what can be changed at SIGHUP, and names what cannot', async () => {
    await configure('debug = true\nhost = other\n');
    compute.signal('SIGHUP');
    await logged(/INFO prebake\.service \[-\] configuration read again; changed: \[DEFAULT\] debug/);
    await logged(/WARNING .* changed, but needs a restart: \[DEFAULT\] host$/m);
    await configure('debug = wrong\n');
    compute.signal('SIGHUP');
    await logged(/ERROR .* the configuration stays as it was: .*debug = wrong: expected true or false/);
    await configure('');
    compute.signal('SIGHUP');
    await logged(/changed: \[DEFAULT\] debug\n[^]*changed: \[DEFAULT\] debug/);
  });

  test('ends what it is doing at SIGTERM', async () => {
    const id = await boot('drained');
    compute.signal('SIGTERM');
    expect(await compute.ended()).toBe(0);
    expect(notified).toContain('STOPPING=1');
    expect(await nova.show(id)).toMatchObject({ status: 'ACTIVE', 'OS-EXT-STS:task_state': null });
    expect(await readFile(logFile, 'utf8')).toMatch(/ \[None req-\S+ \w+ \w+ - - default default\] /);
  });

  test.each([
    ['at once at the second signal', '', true, /again: ending at once/],
    [
      'when graceful_shutdown_timeout is over',
      'graceful_shutdown_timeout = 1\n',
      false,
      /did not end within 1 s and are interrupted/,
    ],
  ])('ends %s; the next start settles what it left', async (_when, setting, twice, words) => {
    await configure(setting);
    compute = await start();
    // A boot waits for its port to be wired: for ever, when the agent stands still.
    await agent('SIGSTOP');
    try {
      const id = await boot('cut-short');
      compute.signal('SIGTERM');
      if (twice) compute.signal('SIGINT');
      expect(await compute.ended()).toBe(1);
      await logged(words);
      compute = await start();
      const server = await nova.waitForStatus(id, 'ERROR');
      expect(server.fault?.message).toMatch(/was restarted while it was building/);
    } finally {
      await agent('SIGCONT');
    }
    await compute.stop();
  });
});
