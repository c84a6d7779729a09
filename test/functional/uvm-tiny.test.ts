/**
 * A µVM's whole way on real parts: the tiny image is baked, and servers are started from it that share nothing but pages.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PowerState } from '../../drivers/driver';
import type { BakeProgress } from '../../lib/bake';
import type { NetworkInfo } from '../../lib/objects';
import type { UvmManifest } from '../../lib/squirrel';
import { sha256Of } from '../support/sha256';
import { until } from './support/until';
import { driverOf, hostnameOf, macOf, networkOf, reportOf, tapOf, UvmHost } from './support/uvm-host';

const BASE_MEMORY_MB = 256;
const GIB = 1024 ** 3;
const WHO_TIMEOUT_MS = 60_000;
const flavor = { name: 'm1', vcpus: 2, memoryMb: 512, rootGb: 1, ephemeralGb: 0, swapMb: 0, extraSpecs: {} };

let host: UvmHost;
let manifest: UvmManifest;
const progress: BakeProgress[] = [];

jest.setTimeout(300_000);

beforeAll(async () => {
  host = await UvmHost.start({
    imageFile: 'tiny.qcow2',
    baseMemoryMb: BASE_MEMORY_MB,
    bakeTimeoutS: 240,
    gateTimeoutMs: 90_000,
  });
  const { baker, image, templates } = host;
  expect(await templates.find(image, flavor)).toEqual({ none: 'the image has no µVM yet' });
  const bakes = [0, 1].map(() => baker.bake(image, { onProgress: (step) => progress.push(step) }));
  const [first, second] = await Promise.all(bakes);
  if (first === undefined) throw new Error('no manifest');
  expect(second).toBe(first);
  manifest = first;
});
afterEach(async () => {
  await host.destroyServers();
});
afterAll(() => host.stop());

async function journalOf(uuid: string): Promise<unknown> {
  return JSON.parse(await readFile(join(host.instancesPath, uuid, 'prebake.json'), 'utf8')) as unknown;
}

test('a bake leaves a proven µVM and nothing else', async () => {
  const phases = ['queue', 'boot', 'seal', 'capture', 'prove', 'store'];
  expect([...new Set(progress.map((step) => step.phase))]).toEqual(phases);
  expect(await host.squirrel.list()).toMatchObject([{ state: 'ok', key: manifest.key }]);
  expect(await readdir(join(host.squirrel.directory, 'bakes'))).toEqual([]);
  expect(await host.driver.listInstanceUuids()).toEqual([]);
  expect(manifest.files.ram.sizeBytes).toBe(BASE_MEMORY_MB * 1024 * 1024);
  expect((await host.squirrel.verify(manifest.key)).problems).toEqual([]);
  expect(host.baker.state).toEqual([]);
});

test('two servers of one µVM are two servers, and the µVM stays as it was', async () => {
  const { driver } = host;
  const { ramPath } = await host.squirrel.materialise(manifest.key);
  const before = await sha256Of(ramPath);
  const servers = [host.server(flavor), host.server(flavor)];
  const started = await Promise.all(
    servers.map(async (instance) => {
      const request = await host.request(instance);
      const outcome = await driver.spawn(request);
      expect(await driver.getPowerState(instance.uuid)).toBe(PowerState.RUNNING);
      return { outcome, timeline: request.timeline };
    }),
  );
  for (const { outcome, timeline } of started) {
    expect(await reportOf(outcome)).toMatchObject({ vcpus: 2, rootBytes: GIB });
    expect(timeline.marks.map((mark) => mark.name)).toEqual(['running', 'identity', 'ready']);
  }

  const randoms = new Set<string | undefined>();
  for (const instance of servers) {
    const who = await host.whoIs(instance, WHO_TIMEOUT_MS);
    expect(who.get('hostname')).toBe(hostnameOf(instance));
    expect(who.get('cpus')).toBe('2');
    expect(Number(who.get('memory'))).toBeGreaterThan(350);
    expect(Number(who.get('disk')) * 512).toBe(GIB);
    expect(who.get('macs')).toBe(macOf(instance));
    randoms.add(who.get('random'));
  }
  expect(randoms.size).toBe(2);
  expect(await sha256Of(ramPath)).toBe(before);

  for (const instance of servers) {
    expect(await journalOf(instance.uuid)).toMatchObject({ step: 'done' });
    const cold = await host.virsh('dumpxml', '--inactive', instance.uuid);
    expect(cold).not.toContain('incoming');
    expect(cold).toContain(`<memory unit='KiB'>${flavor.memoryMb * 1024}</memory>`);
    await driver.destroy(instance);
  }
  expect(await driver.listInstanceUuids()).toEqual([]);
  expect(await readdir(host.instancesPath)).toEqual(['_base']);
  expect(await readdir(join(host.libvirtd.directory, 'lib/qemu/ram'))).toEqual([]);
});

test('a clone lives on as any server: paused, rebooted, started cold from its own disk', async () => {
  const { driver } = host;
  const instance = host.server(flavor);
  await reportOf(await driver.spawn(await host.request(instance)));
  await host.whoIs(instance, WHO_TIMEOUT_MS);
  await driver.pause(instance.uuid);
  expect(await driver.getPowerState(instance.uuid)).toBe(PowerState.PAUSED);
  await driver.unpause(instance.uuid);
  await driver.hardReboot(instance, networkOf(instance, host.bridge));
  await until('its own hostname after a cold start', async () =>
    (await driver.getConsoleOutput(instance.uuid, null)).includes(hostnameOf(instance)),
  );
  await driver.powerOff(instance.uuid, 0);
  expect(await driver.getPowerState(instance.uuid)).toBe(PowerState.SHUTDOWN);
  await driver.destroy(instance);
});

test('the NIC has no carrier before the guest is someone and Neutron is done', async () => {
  const { driver } = host;
  const instance = host.server(flavor);
  let plug: () => void = () => undefined;
  const plugged = new Promise<void>((resolve) => (plug = resolve));
  let spawned = false;
  const request = await host.request(instance, { vifsPlugged: () => plugged });
  const spawning = driver.spawn(request).then((outcome) => {
    spawned = true;
    return outcome;
  });
  await until('identity', () => request.timeline.marks.some((mark) => mark.name === 'identity'));
  expect(await host.virsh('domif-getlink', instance.uuid, tapOf(instance))).toContain('down');
  expect(spawned).toBe(false);
  plug();
  await reportOf(await spawning);
  expect(await host.virsh('domif-getlink', instance.uuid, tapOf(instance))).toContain('up');
  await driver.destroy(instance);
});

test('a server without ports and without a config drive does not keep those of the µVM', async () => {
  const { driver } = host;
  const instance = host.server(flavor);
  const changes = { network: Promise.resolve([]) };
  await reportOf(await driver.spawn(await host.request(instance, changes, { configDrive: false })));
  await until('nothing of the µVM to be left', async () => {
    const xml = await host.virsh('dumpxml', instance.uuid);
    return !xml.includes('<interface') && !xml.includes('vdz');
  });
  expect(await host.virsh('dumpxml', '--inactive', instance.uuid)).not.toMatch(/<interface|vdz|disk\.config/);
  expect(await readdir(join(host.instancesPath, instance.uuid))).not.toContain('disk.config');
  expect((await host.whoIs(instance, WHO_TIMEOUT_MS)).get('macs')).toBe('');
  await driver.destroy(instance);
});

test('a µVM that QEMU cannot load is no failure of the server: it boots cold and says why', async () => {
  const { driver } = host;
  const instance = host.server(flavor);
  const uvm = { ...(await host.squirrel.materialise(manifest.key)), statePath: '/dev/null' };
  const outcome = await driver.spawn(await host.request(instance, { template: { uvm } }));
  expect(outcome).toMatchObject({
    how: 'cold',
    why: expect.stringContaining('QEMU did not load the device state') as string,
  });
  expect(await driver.getPowerState(instance.uuid)).toBe(PowerState.RUNNING);
  await driver.destroy(instance);
});

test('a flavor that a µVM cannot grow to says so', async () => {
  const { image, templates } = host;
  expect(await templates.find(image, { ...flavor, vcpus: 64 })).toEqual({
    none: 'the flavor has 64 vCPUs, a µVM 4 at most',
  });
  expect(await templates.find(image, { ...flavor, memoryMb: 128 })).toEqual({
    none: `the flavor has 128 MiB of memory, the µVM ${BASE_MEMORY_MB}`,
  });
  expect(await templates.find(image, { ...flavor, memoryMb: 300 })).toMatchObject({
    none: expect.stringContaining('multiple of 128') as string,
  });
});

test('a server deleted while it is restored leaves nothing', async () => {
  const { driver } = host;
  const instance = host.server(flavor);
  const abort = new AbortController();
  const never = new Promise<NetworkInfo>((_resolve, reject) =>
    abort.signal.addEventListener('abort', () => reject(new Error('deleted'))),
  );
  const spawning = driver.spawn(await host.request(instance, { network: never, signal: abort.signal }));
  spawning.catch(() => undefined);
  await until('domain', async () => (await driver.listInstanceUuids()).includes(instance.uuid));
  abort.abort(new Error('deleted'));
  await expect(spawning).rejects.toThrow('deleted');
  expect(await driver.listInstanceUuids()).toEqual([]);
  await expect(stat(join(host.instancesPath, instance.uuid))).rejects.toThrow('ENOENT');
});

test('a bake that nobody wants any more leaves nothing', async () => {
  const { baker, driver, image, squirrel } = host;
  const abort = new AbortController();
  const baking = baker.bake(image, { signal: abort.signal });
  baking.catch(() => undefined);
  await until('the bake guest', async () => (await driver.listInstanceUuids()).length > 0);
  abort.abort(new Error('changed my mind'));
  await expect(baking).rejects.toThrow('changed my mind');
  await until('the end of the bake', () => baker.state.length === 0);
  expect(await driver.listInstanceUuids()).toEqual([]);
  expect(await readdir(join(squirrel.directory, 'bakes'))).toEqual([]);
  expect(await squirrel.find(manifest.key)).toMatchObject({ bakedAt: manifest.bakedAt });
});

describe('after kill -9 of the service', () => {
  /** Has another process spawn a server and die at a point of its boot. */
  async function spawnAndDie(at: 'restored' | 'running' | 'plugged'): Promise<ReturnType<UvmHost['server']>> {
    const instance = host.server(flavor);
    const child = fork(join(__dirname, 'support/spawn-and-die.ts'), {
      execArgv: ['--require', join(__dirname, '../register-typescript.cjs')],
      env: { ...process.env, UV_THREADPOOL_SIZE: '32' },
    });
    const request = await host.request(instance);
    const [network, identity] = await Promise.all([request.network, request.identity]);
    child.send({ place: host.place, at, instance, template: request.template, network, identity });
    const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
    expect(signal).toBe('SIGKILL');
    expect(await host.driver.listInstanceUuids()).toContain(instance.uuid);
    return instance;
  }

  test.each(['restored', 'running'] as const)(
    'a clone that lacks devices (%s) is ended at the next start',
    async (at) => {
      const instance = await spawnAndDie(at);
      const driver = driverOf(host.place);
      await driver.initHost();
      expect(await driver.listInstanceUuids()).not.toContain(instance.uuid);
      await driver.destroy(instance);
      await driver.close();
    },
  );

  test('a clone that was becoming someone gets its network at the next start', async () => {
    const instance = await spawnAndDie('plugged');
    expect(await host.virsh('domif-getlink', instance.uuid, tapOf(instance))).toContain('down');
    const driver = driverOf(host.place);
    await driver.initHost();
    await until('carrier', async () =>
      (await host.virsh('domif-getlink', instance.uuid, tapOf(instance))).includes('up'),
    );
    await until('journal', async () => JSON.stringify(await journalOf(instance.uuid)).includes('done'));
    expect((await host.whoIs(instance, WHO_TIMEOUT_MS)).get('hostname')).toBe(hostnameOf(instance));
    expect(await host.virsh('dominfo', instance.uuid)).toMatch(/Persistent: +yes/);
    await driver.destroy(instance);
    await driver.close();
  });
});
