/** Servers started from a µVM on a real OpenStack. The image is a tiny one: what its guest is told is tested elsewhere. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { expectAgreement } from '../support/boot-views';
import { ComputeProcess } from '../support/compute-process';
import { NOVA_CONF, NovaApi, type Server, type ServerRequest, waitFor } from '../support/nova-api';
import { OtlpCollector } from '../support/otlp-collector';
import { ALL_IN_ONE, addressOf, devicesOnConfigDrive, run, traces, waitForPing } from '../support/servers';

const PREBAKE = join(__dirname, '..', '..', 'dist', 'lib', 'cli', 'main.js');

describe('servers from a µVM', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let image: string;
  let collector: OtlpCollector;
  let directory: string;
  let configFiles: string[];
  const made: string[] = [];

  beforeAll(async () => {
    nova = await NovaApi.login();
    image = await nova.imageId('tiny');
    collector = await OtlpCollector.start();
    directory = await mkdtemp(join(tmpdir(), 'prebake-uvm-servers-'));
    const traced = join(directory, 'traced.conf');
    await writeFile(traced, `[DEFAULT]\nuse_stderr = true\n[prebake]\notlp_endpoint = ${collector.url}\n`);
    configFiles = [NOVA_CONF, traced];
    compute = await ComputeProcess.start({ configFiles });
    await run(ALL_IN_ONE, ['discover-hosts']);
  });
  afterEach(async () => {
    for (const id of made.splice(0)) {
      await nova.delete(id);
      await nova.waitForGone(id);
    }
  });
  afterAll(async () => {
    await compute.stop();
    await collector.stop();
    await rm(directory, { recursive: true });
  });

  async function prebake(...args: string[]): Promise<unknown> {
    const files = configFiles.flatMap((file) => ['--config-file', file]);
    const { stdout } = await run(process.execPath, [PREBAKE, ...files, ...args, '--json']);
    return JSON.parse(stdout);
  }

  async function boot(name: string, flavor = 'm1.small', more: Partial<ServerRequest> = {}): Promise<Server> {
    const id = await nova.create({ name, image, flavor: await nova.flavorId(flavor), ...more });
    made.push(id);
    return nova.waitForStatus(id, 'ACTIVE');
  }

  it('are baked beside the running service, by the command', async () => {
    const listed = z.array(z.looseObject({ key: z.string(), state: z.string() }));
    const baked = z.looseObject({ key: z.string() }).parse(await prebake('bake', image));
    expect(listed.parse(await prebake('cache', 'ls'))).toContainEqual(
      expect.objectContaining({ key: baked.key, state: 'ok' }),
    );
  });

  // matrix: operation.launch, operation.terminate, guest.setup.configdrive, operation.device-tags
  it('run with what their flavor gives, reachable at their own addresses, and go without a trace', async () => {
    const networks = [{ uuid: await nova.networkId('private'), tag: 'front' }];
    const tagged = { configDrive: true, networks, diskTag: 'system' };
    const first = await boot('first', 'm1.small', tagged);
    await expectAgreement(await compute.waitForReady(first.id), compute, collector);
    const servers = [first, await boot('second')];
    expect(await devicesOnConfigDrive(servers[0]?.id ?? '')).toMatchObject([
      { type: 'nic', bus: 'pci', tags: ['front'] },
      { type: 'disk', bus: 'pci', tags: ['system'] },
    ]);
    for (const server of servers) {
      const record = await compute.waitForReady(server.id);
      expect(record.how).toBe('uvm');
      const marks = record.marks.map((mark) => mark.name);
      expect(marks).toEqual(
        expect.arrayContaining(['rpc_received', 'running', 'active', 'identity', 'ready']),
      );
      await waitForPing(nova, server);
      const { stdout } = await run('virsh', ['-c', 'qemu:///system', 'dominfo', server.id]);
      expect(stdout).toMatch(/CPU\(s\): +2$/m);
      expect(stdout).toMatch(/Max memory: +2097152 KiB$/m);
    }
    expect(new Set(servers.map(addressOf)).size).toBe(2);
    for (const server of servers) {
      await nova.delete(server.id);
      await nova.waitForGone(server.id);
      expect(await traces(nova, server)).toEqual([]);
    }
  });

  // matrix: operation.reboot
  it('stop, start and reboot from their own disks', async () => {
    const server = await boot('afterlife');
    await compute.waitForReady(server.id);
    await nova.action(server.id, { 'os-stop': null });
    await nova.waitForStatus(server.id, 'SHUTOFF');
    await nova.action(server.id, { 'os-start': null });
    await waitForPing(nova, await nova.waitForStatus(server.id, 'ACTIVE'));
    await nova.action(server.id, { reboot: { type: 'HARD' } });
    await waitForPing(nova, await nova.waitForStatus(server.id, 'ACTIVE'));
  });

  // matrix: operation.suspend, operation.resume
  it('are suspended and resumed with all their memory, and need no µVM for it', async () => {
    const server = await boot('asleep');
    await compute.waitForReady(server.id);
    await waitForPing(nova, server);
    await nova.action(server.id, { suspend: null });
    await nova.waitForStatus(server.id, 'SUSPENDED');
    const saved = await run('virsh', ['-c', 'qemu:///system', 'managedsave-dumpxml', server.id]);
    expect(saved.stdout).not.toContain('<prebake:uvm');
    await nova.action(server.id, { resume: null });
    await waitForPing(nova, await nova.waitForStatus(server.id, 'ACTIVE'));
    const { stdout } = await run('virsh', ['-c', 'qemu:///system', 'dominfo', server.id]);
    expect(stdout).toMatch(/CPU\(s\): +2$/m);
    expect(stdout).toMatch(/Max memory: +2097152 KiB$/m);
  });

  it('get their identity and network though the service is killed as soon as they are active', async () => {
    const server = await boot('orphaned');
    await compute.kill();
    compute = await ComputeProcess.start({ configFiles });
    await waitForPing(nova, server);
    expect((await nova.show(server.id))?.status).toBe('ACTIVE');
  });

  it('are deleted while they are being built', async () => {
    const id = await nova.create({ name: 'unwanted', image, flavor: await nova.flavorId('m1.small') });
    made.push(id);
    await waitFor(
      async () => ((await nova.show(id))?.['OS-EXT-SRV-ATTR:host'] === 'prebake' ? true : null),
      30_000,
      () => 'the build did not begin',
    );
    await nova.delete(id);
    await nova.waitForGone(id);
    await waitFor(
      async () => ((await traces(nova, { id })).length === 0 ? true : null),
      30_000,
      () => 'something is left',
    );
  });

  it('boot cold, with the reason, where the flavor is smaller than the µVM', async () => {
    const server = await boot('small', 'm1.micro');
    const record = await compute.boot(server.id);
    expect(record).toMatchObject({ how: 'cold', outcome: 'active' });
    expect(record?.why).toMatch(/128 MiB/);
    // Spans go out in batches; a service that stops sends what it has.
    await compute.stop();
    expect(collector.trace(record?.traceId ?? '').map((span) => span.name)).toContain('boot');
    compute = await ComputeProcess.start({ configFiles });
  });
});
