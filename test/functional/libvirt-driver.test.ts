/**
 * The driver against a real libvirtd, QEMU and the tiny guest: a server's life from its cold boot to nothing left.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import { PowerState, type InstanceSpec, type LifecycleEvent, type SpawnRequest } from '../../drivers/driver';
import { LibvirtDriver } from '../../drivers/libvirt';
import { probeAccelerator } from '../../drivers/libvirt/kvm-probe';
import { ImageUnacceptable, InstanceNotFound } from '../../lib/exceptions';
import type { NetworkInfo } from '../../lib/objects';
import { PrivateLibvirtd } from './support/private-libvirtd';
import { coldBoot, coldServer, driverSettings, onePort, TINY_IMAGE } from './support/cold-boots';
import { until } from './support/until';

const run = promisify(execFile);
const BRIDGE = `brqt${process.pid}`;
const GIB = 1024 ** 3;
const logger = pino({ level: 'silent' });

let libvirtd: PrivateLibvirtd;
let directory: string;
let driver: LibvirtDriver;
let downloads = 0;
let imageFile = TINY_IMAGE;

beforeAll(async () => {
  libvirtd = await PrivateLibvirtd.start();
  directory = await mkdtemp(join(tmpdir(), 'prebake-instances-'));
  driver = LibvirtDriver.create({
    config: driverSettings(directory, libvirtd.uri),
    glance: { download },
    logger,
  });
  await driver.initHost();
}, 60_000);
afterAll(async () => {
  await driver.close();
  await libvirtd.stop();
  await rm(directory, { recursive: true, force: true });
  await run('ip', ['link', 'delete', BRIDGE]).catch(() => undefined);
}, 60_000);

async function download(_id: string, toPath: string): Promise<void> {
  downloads += 1;
  await copyFile(imageFile, toPath);
}

const server = coldServer;
const network = (uuid: string): NetworkInfo => onePort(uuid, BRIDGE);
const request = (instance: InstanceSpec, changes: Partial<SpawnRequest> = {}): SpawnRequest =>
  coldBoot(instance, network(instance.uuid), changes);

async function taps(): Promise<string[]> {
  return (await readdir('/sys/class/net')).filter((name) => name.startsWith('tap'));
}

/** Nothing of the server is on the host. */
async function expectNothingLeft(instance: InstanceSpec): Promise<void> {
  await expect(driver.getPowerState(instance.uuid)).rejects.toBeInstanceOf(InstanceNotFound);
  expect(await readdir(join(directory, 'instances'))).not.toContain(instance.uuid);
  expect(await taps()).not.toContain(network(instance.uuid)[0]?.devname);
}

test('a server lives: spawn, console, VNC, pause, reboots, off, on, destroy', async () => {
  const instance = server('good-image', {
    flavor: { name: 'm1', vcpus: 1, memoryMb: 96, rootGb: 1, ephemeralGb: 1, swapMb: 64, extraSpecs: {} },
  });
  const { uuid } = instance;
  const events: LifecycleEvent[] = [];
  driver.onLifecycle((event) => events.push(event));
  let pausedWhilePlugging: PowerState | undefined;
  const outcome = await driver.spawn(
    request(instance, {
      vifsPlugged: async ([vif]) => {
        expect(await taps()).toContain(vif?.devname);
        pausedWhilePlugging = await driver.getPowerState(uuid);
      },
    }),
  );
  expect(outcome).toEqual({ how: 'cold', why: 'no µVM yet' });
  expect(pausedWhilePlugging).toBe(PowerState.PAUSED);
  expect(await driver.getPowerState(uuid)).toBe(PowerState.RUNNING);
  expect(await driver.listInstanceUuids()).toContain(uuid);

  const { stdout } = await run('qemu-img', [
    'info',
    '-U',
    '--output=json',
    join(directory, 'instances', uuid, 'disk'),
  ]);
  expect(JSON.parse(stdout)).toMatchObject({
    format: 'qcow2',
    'virtual-size': GIB,
    'backing-filename-format': 'raw',
  });
  const iso = join(directory, 'instances', uuid, 'disk.config');
  const listing = await run('isoinfo', ['-J', '-f', '-i', iso]);
  expect(listing.stdout).toContain('/openstack/latest/meta_data.json');

  const booted = async (): Promise<boolean> =>
    /login:|Linux version|tiny/i.test(await driver.getConsoleOutput(uuid, null));
  await until('the guest to write to its console', booted, 60_000);
  expect((await driver.getConsoleOutput(uuid, 2)).split('\n').filter(Boolean).length).toBeLessThanOrEqual(2);

  const { host, port } = await driver.getConsole(uuid, 'novnc');
  const greeting = await new Promise<string>((resolve, reject) => {
    const socket = connect({ host, port });
    socket.once('error', reject);
    socket.once('data', (data) => {
      socket.destroy();
      resolve(data.toString());
    });
  });
  expect(greeting).toMatch(/^RFB 003/);

  await driver.pause(uuid);
  expect(await driver.getPowerState(uuid)).toBe(PowerState.PAUSED);
  await driver.unpause(uuid);
  expect(await driver.getPowerState(uuid)).toBe(PowerState.RUNNING);

  await driver.hardReboot(instance, network(uuid));
  expect(await driver.getPowerState(uuid)).toBe(PowerState.RUNNING);
  await until('the guest to boot again', booted, 60_000);

  // Only a guest that sees its power button can go down by itself.
  await until('the guest to hear the power button', () => driver.softReboot(instance, 10_000), 90_000);
  expect(await driver.getPowerState(uuid)).toBe(PowerState.RUNNING);

  await driver.powerOff(uuid, 0);
  expect(await driver.getPowerState(uuid)).toBe(PowerState.SHUTDOWN);
  await driver.powerOff(uuid, 5_000);
  await expect(driver.getConsole(uuid, 'novnc')).rejects.toThrow(/not running/);
  await driver.powerOn(instance, network(uuid));
  expect(await driver.getPowerState(uuid)).toBe(PowerState.RUNNING);
  expect(events.filter((event) => event.uuid === uuid && event.kind === 'crashed')).toEqual([]);

  const gone = new Promise<LifecycleEvent>((resolve) => {
    driver.onLifecycle((event) => {
      if (event.uuid === uuid && event.kind === 'stopped') resolve(event);
    });
  });
  await run('virsh', ['-c', libvirtd.uri, 'destroy', instance.name]);
  await gone;

  await driver.destroy(instance);
  await driver.destroy(instance);
  await expectNothingLeft(instance);
}, 240_000);

test('two boots at once fetch an image once', async () => {
  const before = downloads;
  const servers = [server('shared-image'), server('shared-image')];
  await Promise.all(servers.map((instance) => driver.spawn(request(instance))));
  expect(downloads - before).toBe(1);
  await Promise.all(servers.map((instance) => driver.destroy(instance)));
}, 120_000);

test('an image with a backing file is refused and leaves nothing', async () => {
  imageFile = join(directory, 'evil.qcow2');
  await run('qemu-img', [
    'create',
    '-q',
    '-u',
    '-f',
    'qcow2',
    '-b',
    '/etc/shadow',
    '-F',
    'raw',
    imageFile,
    '1M',
  ]);
  try {
    const instance = server('evil-image');
    await expect(driver.spawn(request(instance))).rejects.toThrow(/has a backing file/);
    await expectNothingLeft(instance);
    await writeFile(imageFile, 'no qcow2 at all');
    const disguised = server('disguised-image');
    await expect(driver.spawn(request(disguised))).rejects.toBeInstanceOf(ImageUnacceptable);
    await expectNothingLeft(disguised);
    expect(
      (await readdir(join(directory, 'instances', '_base'))).filter((name) => name.includes('.part')),
    ).toEqual([]);
  } finally {
    imageFile = TINY_IMAGE;
  }
}, 60_000);

test.each<[string, () => Partial<SpawnRequest>, RegExp]>([
  ['its network fails', () => ({ network: Promise.reject(new Error('no port')) }), /no port/],
  [
    'its VIFs are not plugged',
    () => ({ vifsPlugged: () => Promise.reject(new Error('timed out')) }),
    /timed out/,
  ],
])(
  'when %s, a spawn leaves nothing',
  async (_, changes, message) => {
    const instance = server('good-image');
    await expect(driver.spawn(request(instance, changes()))).rejects.toThrow(message);
    await expectNothingLeft(instance);
  },
  60_000,
);

test('a spawn that is aborted leaves nothing', async () => {
  const instance = server('good-image');
  const abort = new AbortController();
  const spawning = driver.spawn(
    request(instance, {
      signal: abort.signal,
      vifsPlugged: () => {
        abort.abort(new Error('deleted'));
        return Promise.resolve();
      },
    }),
  );
  await expect(spawning).rejects.toThrow('deleted');
  await expectNothingLeft(instance);
}, 60_000);

// matrix: operation.report-cpu-traits
test('the host is described as Placement and Nova want it', async () => {
  const resources = await driver.getAvailableResource();
  expect(resources).toMatchObject({
    hypervisorType: 'QEMU',
    supportedInstances: [['x86_64', 'qemu', 'hvm']],
  });
  expect(resources.hypervisorVersion).toBeGreaterThan(5_000_000);
  expect(resources.memoryMb).toBeGreaterThan(resources.memoryMbUsed);
  expect(resources.localGb).toBeGreaterThan(0);
  expect(resources.traits).toEqual(expect.arrayContaining(['COMPUTE_NODE', 'HW_CPU_X86_SSE2']));
  expect(await driver.getHostUptime()).toMatch(/load average/);
});

test('the probe runs a guest through all modes to its end', async () => {
  await probeAccelerator('/usr/bin/qemu-system-x86_64', 'tcg', 60_000);
}, 90_000);

test('the probe says what is wrong, and what to do, when the guest is given up or never ends', async () => {
  const emulator = join(directory, 'qemu-with-a-poor-kvm');
  await writeFile(emulator, '#!/bin/sh\necho "KVM internal error. Suberror: 1" >&2\nexec sleep 60\n', {
    mode: 0o755,
  });
  await expect(probeAccelerator(emulator)).rejects.toThrow(
    /\/dev\/kvm.*KVM internal error.*Set virt_type = qemu/,
  );
  await expect(probeAccelerator('/usr/bin/qemu-system-x86_64', 'tcg', 1)).rejects.toThrow(
    /did not run within 1 ms/,
  );
}, 30_000);
