/** What images, flavors and Neutron ask of the virtual hardware, on a real libvirtd: firmware, limits, Open vSwitch. */
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import { PowerState, type InstanceSpec } from '../../drivers/driver';
import { LibvirtDriver } from '../../drivers/libvirt';
import { Invalid, SecureBootNotSupported } from '../../lib/exceptions';
import { coldBoot, coldServer, driverSettings, onePort, TINY_IMAGE } from './support/cold-boots';
import { OpenVswitch } from './support/open-vswitch';
import { PrivateLibvirtd } from './support/private-libvirtd';
import { until } from './support/until';

const run = promisify(execFile);
const BRIDGE = `brqh${process.pid}`;
const SWITCH = `ovs${process.pid}`;

let libvirtd: PrivateLibvirtd;
let directory: string;
let driver: LibvirtDriver;

beforeAll(async () => {
  libvirtd = await PrivateLibvirtd.start();
  directory = await mkdtemp(join(tmpdir(), 'prebake-hardware-'));
  driver = LibvirtDriver.create({
    config: driverSettings(directory, libvirtd.uri),
    glance: { download: (_id, toPath) => copyFile(TINY_IMAGE, toPath) },
    logger: pino({ level: 'silent' }),
  });
  await driver.initHost();
}, 60_000);
afterAll(async () => {
  await driver.close();
  await libvirtd.stop();
  await rm(directory, { recursive: true, force: true });
  await run('ip', ['link', 'delete', BRIDGE]).catch(() => undefined);
}, 60_000);

async function virsh(...args: string[]): Promise<string> {
  return (await run('virsh', ['-c', libvirtd.uri, ...args])).stdout;
}

function serverWith(
  properties: Readonly<Record<string, string>>,
  extraSpecs: Readonly<Record<string, string>> = {},
): InstanceSpec {
  const plain = coldServer('tiny');
  return {
    ...plain,
    image: { ...plain.image, properties },
    flavor: { ...plain.flavor, extraSpecs },
  };
}

/** Files in which libvirt keeps the variables of UEFIs. */
async function variableFiles(): Promise<string[]> {
  return await readdir(join(libvirtd.directory, 'lib', 'qemu', 'nvram')).catch(() => []);
}

// matrix: operation.uefi-boot
test('a guest of an image for UEFI has that firmware, whose variables live as long as the server', async () => {
  const instance = serverWith({ hw_firmware_type: 'uefi' });
  const network = onePort(instance.uuid, BRIDGE);
  await driver.spawn(coldBoot(instance, network));
  expect(await virsh('dumpxml', instance.uuid)).toMatch(
    /<loader readonly='yes' [^>]*type='pflash'>[^<]*OVMF/,
  );
  const [file, ...others] = await variableFiles();
  expect(others).toEqual([]);
  expect(file).toContain(instance.name);
  const path = join(libvirtd.directory, 'lib', 'qemu', 'nvram', String(file));
  const made = (await stat(path)).ino;
  await driver.hardReboot(instance, network);
  expect((await stat(path)).ino).toBe(made);
  await driver.destroy(instance);
  expect(await variableFiles()).toEqual([]);
}, 240_000);

// matrix: guest.disk.rate-limit
test('limits of a flavor hold for its disks', async () => {
  const instance = serverWith(
    {},
    {
      'quota:disk_total_iops_sec': '500',
      'quota:disk_read_bytes_sec': '1048576',
    },
  );
  await driver.spawn(coldBoot(instance, onePort(instance.uuid, BRIDGE)));
  const tuning = await virsh('blkdeviotune', instance.uuid, 'vda');
  expect(tuning).toMatch(/total_iops_sec *: 500$/m);
  expect(tuning).toMatch(/read_bytes_sec *: 1048576$/m);
  await driver.destroy(instance);
}, 120_000);

test('what flavors and images ask for beyond disks and NICs is there', async () => {
  const instance = serverWith(
    {
      hw_input_bus: 'virtio',
      hw_video_model: 'vga',
      hw_video_ram: '32',
      hw_time_hpet: 'true',
      img_hide_hypervisor_id: 'true',
    },
    {
      'hw:watchdog_action': 'poweroff',
      'hw:pmu': 'false',
      'hw:boot_menu': 'true',
      'hw_rng:rate_bytes': '1024',
      'hw_rng:rate_period': '100',
      'hw_video:ram_max_mb': '64',
      'hw:cpu_cores': '2',
    },
  );
  const twoCpus = { ...instance, flavor: { ...instance.flavor, vcpus: 2 } };
  await driver.spawn(coldBoot(twoCpus, onePort(instance.uuid, BRIDGE)));
  const { stdout: qemu } = await run('pgrep', ['--list-full', '--full', `guest=${instance.name},`]);
  for (const option of [
    '"driver":"i6300esb"',
    'poweroff',
    'pmu=off',
    'kvm=off',
    'menu=on',
    '"max-bytes":1024,"period":100',
    '"vgamem_mb":32',
    '"driver":"virtio-tablet-pci"',
    '"driver":"virtio-keyboard-pci"',
    'sockets=1,dies=1,cores=2,threads=1',
  ]) {
    expect(qemu).toContain(option);
  }
  expect(qemu).not.toContain('-no-hpet');
  await driver.destroy(instance);
}, 60_000);

test.each([
  ['secure boot', { hw_firmware_type: 'uefi', os_secure_boot: 'required' }, {}, SecureBootNotSupported],
  ['an emulated TPM by image', { hw_tpm_version: '2.0' }, {}, Invalid],
  ['an emulated TPM by flavor', {}, { 'hw:tpm_version': '1.2' }, Invalid],
  ['a pinned CPU', {}, { 'hw:cpu_policy': 'dedicated' }, /hw:cpu_policy=dedicated is not provided/],
  ['a limit that is no number', {}, { 'quota:disk_total_iops_sec': 'many' }, /has to be a number/],
])('%s is refused, and nothing is left', async (_what, properties, extraSpecs, refusal) => {
  const instance = serverWith(properties, extraSpecs);
  await expect(driver.spawn(coldBoot(instance, onePort(instance.uuid, BRIDGE)))).rejects.toThrow(refusal);
  expect(await driver.listInstanceUuids()).not.toContain(instance.uuid);
  expect(await readdir(join(directory, 'instances'))).not.toContain(instance.uuid);
});

// matrix: operation.file-backed-memory
test('memory is in files where the operator wants that, and is counted as there is of them', async () => {
  const settings = driverSettings(directory, libvirtd.uri);
  const inFiles = LibvirtDriver.create({
    config: { ...settings, libvirt: { ...settings.libvirt, fileBackedMemory: 4096 } },
    glance: { download: (_id, toPath) => copyFile(TINY_IMAGE, toPath) },
    logger: pino({ level: 'silent' }),
  });
  await inFiles.initHost();
  const instance = coldServer('tiny');
  try {
    const usedBeforeMb = (await inFiles.getAvailableResource()).memoryMbUsed;
    await inFiles.spawn(coldBoot(instance, []));
    const resources = await inFiles.getAvailableResource();
    expect(resources.memoryMb).toBe(4096);
    expect(resources.memoryMbUsed - usedBeforeMb).toBe(instance.flavor.memoryMb);
    const { stdout } = await run('pgrep', ['-f', `guest=${instance.name},`]);
    expect(await readFile(`/proc/${stdout.trim()}/maps`, 'utf8')).toContain('/qemu/ram/');
    await inFiles.destroy(instance);
    expect((await inFiles.getAvailableResource()).memoryMbUsed).toBe(usedBeforeMb);
  } finally {
    await inFiles.destroy(instance);
    await inFiles.close();
  }
}, 60_000);

describe('ports in Open vSwitch', () => {
  let ovs: OpenVswitch;

  beforeAll(async () => {
    ovs = await OpenVswitch.start();
  }, 60_000);
  afterAll(async () => {
    await ovs.vsctl('--if-exists', 'del-br', SWITCH).catch(() => undefined);
    await ovs.stop();
  }, 60_000);

  const ports = async (): Promise<string[]> =>
    (await ovs.vsctl('list-ports', SWITCH)).split('\n').filter(Boolean);

  test('are plugged under their own names, carry packets, come and go with the guest', async () => {
    const instance = coldServer('tiny');
    const network = onePort(instance.uuid, SWITCH, {
      type: 'ovs',
      ovs_interfaceid: instance.uuid,
      details: { datapath_type: 'netdev', ovs_hybrid_plug: false },
    });
    const tap = `tap${instance.uuid.slice(0, 11)}`;
    await driver.spawn(coldBoot(instance, network));
    expect(await ports()).toEqual([tap]);
    expect(await ovs.vsctl('get', 'Interface', tap, 'external_ids:iface-id')).toBe(`"${instance.uuid}"`);
    expect(await ovs.vsctl('get', 'Interface', tap, 'external_ids:attached-mac')).toContain(
      'fa:16:3e:00:00:01',
    );
    expect(await ovs.vsctl('get', 'Interface', tap, 'mtu')).toBe('1450');
    // The switch's own port speaks up as soon as it is on, and what it says goes to all.
    await run('ip', ['link', 'set', 'dev', SWITCH, 'up']);
    await until(
      'the switch to forward packets to the guest',
      async () => Number(await ovs.vsctl('get', 'Interface', tap, 'statistics:tx_packets')) > 0,
      60_000,
    );

    await driver.powerOff(instance.uuid, 0);
    expect(await ports()).toEqual([]);
    await driver.powerOn(instance, network);
    expect(await ports()).toEqual([tap]);
    expect(await driver.getPowerState(instance.uuid)).toBe(PowerState.RUNNING);
    await driver.destroy(instance);
    expect(await ports()).toEqual([]);
  }, 180_000);

  test('are refused where Neutron wants a Linux bridge in between', async () => {
    const instance = coldServer('tiny');
    const network = onePort(instance.uuid, SWITCH, { type: 'ovs', details: { ovs_hybrid_plug: true } });
    await expect(driver.spawn(coldBoot(instance, network))).rejects.toThrow(/ovs_hybrid_plug/);
    expect(await driver.listInstanceUuids()).not.toContain(instance.uuid);
  });
});
