/**
 * The driver alone: from its call until the clone's guest runs. Beside it, turn and turn about, what no driver under libvirt
 * can do without (libvirt starting the same domain, and QEMU loading the same device state), QEMU without libvirt, and
 * libvirt's own restore of a saved server.
 */
import { randomUUID } from 'node:crypto';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import type { InstanceSpec, UvmTemplate } from '../../drivers/driver';
import { LibvirtConnection } from '../../drivers/libvirt/connection';
import { reserveConfigDrive } from '../../drivers/libvirt/config-drive';
import { clonedNicXml, spareNicXml, uvmDomainXml } from '../../drivers/libvirt/uvm/layout';
import { BAKE_NIC_MAC } from '../../lib/bake';
import { Timeline } from '../../lib/timeline';
import { networkOf, settingsOf, UvmHost } from '../functional/support/uvm-host';
import { type Figure, figure } from './figures';
import type { BenchOptions } from './main';
import { restoreBare } from './bare-qemu';

const IMAGE = 'debian-12';
const EMULATOR = '/usr/bin/qemu-system-x86_64';
const BASE_MEMORY_MB = 512;
const FLAVOR = {
  name: 'bench',
  vcpus: 1,
  memoryMb: BASE_MEMORY_MB,
  rootGb: 10,
  ephemeralGb: 0,
  swapMb: 0,
  extraSpecs: {},
};
const BOOT_TIMEOUT_MS = 900_000;

/** Milliseconds of one turn of each. */
interface Turn {
  /** The driver's call until the guest runs. */
  readonly driver: number;
  /** virDomainCreateXML of the same domain, waiting for device state. */
  readonly create: number;
  /** QEMU without libvirt: all of it, and the loading alone. */
  readonly bare: number;
  readonly load: number;
  /** `virsh restore` of a saved server of the image. */
  readonly saved: number;
}

async function restoreByDriver(host: UvmHost): Promise<number> {
  const instance = host.server(FLAVOR);
  const request = await host.request(instance);
  const timeline = new Timeline();
  try {
    await host.driver.spawn({ ...request, timeline });
    const running = timeline.marks.find(({ name }) => name === 'running');
    if (running === undefined) throw new Error('the server did not come from its µVM');
    return running.atMs;
  } finally {
    await host.driver.destroy(instance);
  }
}

/** The domain that the driver starts, with files of its own and all that it has when its guest runs. */
function domainXml(host: UvmHost, uvm: UvmTemplate, directory: string, nicXml: string): string {
  const uuid = randomUUID();
  const xml = uvmDomainXml({
    name: `bench-${uuid.slice(0, 8)}`,
    uuid,
    memoryMb: uvm.memoryMb,
    platform: uvm.platform,
    settings: settingsOf(host.place),
    emulatorPath: EMULATOR,
    ramPath: uvm.ramPath,
    directory,
    diskPath: join(directory, 'disk'),
    drivePath: join(directory, 'drive'),
    gateSocketPath: join(directory, 'gate'),
    consoleLogPath: join(directory, 'console.log'),
    serialPorts: [],
    role: 'clone',
  });
  return xml.replace('</devices>', () => `${nicXml}</devices>`);
}

async function createByLibvirt(connection: LibvirtConnection, xml: string): Promise<number> {
  const beganAt = performance.now();
  const domain = await connection.createXml(xml, { paused: true });
  const tookMs = performance.now() - beganAt;
  await domain.destroy();
  return tookMs;
}

async function restoreSaved(host: UvmHost, instance: InstanceSpec, file: string): Promise<number> {
  const beganAt = performance.now();
  await host.virsh('restore', file);
  const tookMs = performance.now() - beganAt;
  await host.virsh('destroy', instance.uuid);
  return tookMs;
}

/** A server of the image, booted cold and saved by libvirt. */
async function saveServer(host: UvmHost, file: string): Promise<InstanceSpec> {
  const instance = host.server(FLAVOR);
  await host.driver.spawn(
    await host.request(instance, { template: { none: 'the bench wants a cold boot' } }),
  );
  await host.whoIs(instance, BOOT_TIMEOUT_MS);
  await host.virsh('save', instance.uuid, file);
  return instance;
}

async function measure(host: UvmHost, { runs, say }: BenchOptions): Promise<Turn[]> {
  say(`${IMAGE}: baking`);
  await host.baker.bake(host.image);
  const { template } = await host.request(host.server(FLAVOR));
  if ('none' in template) throw new Error(`no µVM: ${template.none}`);
  const { uvm } = template;
  const directory = await mkdtemp(join(tmpdir(), 'prebake-bench-'));
  const connection = await LibvirtConnection.open({
    uri: host.libvirtd.uri,
    logger: pino({ level: 'silent' }),
  });
  try {
    say(`${IMAGE}: booting a server to save`);
    const file = join(directory, 'saved');
    const server = await saveServer(host, file);
    await copyFile(uvm.diskDeltaPath, join(directory, 'disk'));
    await reserveConfigDrive(join(directory, 'drive'));
    const [port] = networkOf(host.server(FLAVOR), host.bridge);
    if (port === undefined) throw new Error('a server without a port');
    const turns: Turn[] = [];
    for (let run = 1; run <= runs; run += 1) {
      const driver = await restoreByDriver(host);
      const nicXml = clonedNicXml(port, { link: 'down' });
      const create = await createByLibvirt(connection, domainXml(host, uvm, directory, nicXml));
      // Its own network costs QEMU less than a tap that libvirt opens.
      const xml = domainXml(host, uvm, directory, spareNicXml(BAKE_NIC_MAC));
      const xmlPath = join(directory, 'domain.xml');
      await writeFile(xmlPath, xml);
      const command = await host.virsh('domxml-to-native', 'qemu-argv', '--xml', xmlPath);
      const { totalMs, loadMs } = await restoreBare(host.libvirtd, command, uvm, directory);
      const saved = await restoreSaved(host, server, file);
      turns.push({ driver, create, bare: totalMs, load: loadMs, saved });
      const told = [driver, create, loadMs, totalMs, saved].map((ms) => ms.toFixed());
      say(
        `run ${run}, ms: driver ${told[0]}, libvirt's start ${told[1]} and load ${told[2]}, bare QEMU ${told[3]}, saved server ${told[4]}`,
      );
    }
    await host.driver.destroy(server);
    return turns;
  } finally {
    await connection.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Bakes on a host of the bench's own, with the machine's libvirt and QEMU, or those of another system that lies in a folder;
 * nothing of the cloud is used but its image file.
 */
export async function restore(options: BenchOptions): Promise<Figure[]> {
  const host = await UvmHost.start({
    imageFile: `${IMAGE}.qcow2`,
    baseMemoryMb: BASE_MEMORY_MB,
    bakeTimeoutS: BOOT_TIMEOUT_MS / 1000,
    gateTimeoutMs: BOOT_TIMEOUT_MS,
    root: options.root,
  });
  try {
    const turns = await measure(host, options);
    const of = (name: keyof Turn): number[] => turns.map((turn) => turn[name]);
    const values = of('driver');
    const unit = 'ms';
    return [
      figure({
        name: 'driver call to running',
        unit,
        values,
        peer: {
          name: "libvirt's start of the domain + QEMU's load of the state",
          values: turns.map(({ create, load }) => create + load),
        },
        goal: { of: 'ratio', bound: 'at most', limit: 1.15 },
      }),
      figure({
        name: 'the same',
        unit,
        values,
        peer: { name: 'QEMU without libvirt', values: of('bare') },
        goal: { of: 'ratio', bound: 'at most', limit: 2 },
      }),
      figure({ name: 'the same', unit, values, goal: { of: 'value', bound: 'at most', limit: 200 } }),
      figure({
        name: 'the same',
        unit,
        values,
        peer: { name: 'virsh restore of a saved server', values: of('saved') },
      }),
      figure({ name: "libvirt's start of the domain", unit, values: of('create') }),
      figure({ name: "QEMU's load of the state", unit, values: of('load') }),
    ];
  } finally {
    await host.stop();
  }
}
