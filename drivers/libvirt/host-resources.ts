/** What this host has and how much of it is used, counted as Nova's libvirt driver counts. */
import { open, readFile, statfs } from 'node:fs/promises';
import { cpus } from 'node:os';
import { z } from 'zod';
import type { HostResources } from '../driver';
import type { LibvirtConnection } from './connection';
import { cpuTraits } from './cpu-traits';
import { usedMemoryKib } from './diagnostics';
import { DISK_BUSES, VIDEO_MODELS, VIF_MODELS } from './hardware';
import type { HostCapabilities } from './host-capabilities';
import { isErrno, type InstanceStore } from './instance-store';
import { cpuMode, type DriverSettings } from './settings';
import { readXml } from './xml-reader';
import { toXml } from './xml';

const GIB = 1024 ** 3;
/** QEMU's default model for guests without a CPU mode. */
const DEFAULT_CPU_MODEL = 'qemu64';
const QCOW2_HEADER_BYTES = 112;

const expandedCpuSchema = z.object({
  cpu: z.object({ feature: z.array(z.object({ '@name': z.string() })).default([]) }),
});

/** Reads everything anew. */
export async function readHostResources(
  connection: LibvirtConnection,
  capabilities: HostCapabilities,
  settings: DriverSettings,
  instances: InstanceStore,
): Promise<HostResources> {
  const [hypervisorVersion, hypervisorHostname, features, memory, disk, overcommittedBytes] =
    await Promise.all([
      connection.hypervisorVersion(),
      connection.hostname(),
      guestCpuFeatures(connection, capabilities, settings),
      settings.libvirt.fileBackedMemory > 0
        ? fileMemory(connection, settings.libvirt.fileBackedMemory)
        : readFile('/proc/meminfo', 'utf8').then(parseMemory),
      statfs(instances.directory),
      overcommitted(instances),
    ]);
  const { cpu } = capabilities;
  const freeBytes = disk.bavail * disk.bsize;
  return {
    vcpus: cpus().length,
    memoryMb: memory.totalMb,
    memoryMbUsed: memory.usedMb,
    localGb: Math.floor((disk.blocks * disk.bsize) / GIB),
    localGbUsed: Math.floor(((disk.blocks - disk.bfree) * disk.bsize) / GIB),
    diskAvailableLeastGb: Math.floor((freeBytes - overcommittedBytes) / GIB),
    hypervisorType: 'QEMU',
    hypervisorVersion,
    hypervisorHostname,
    cpuInfo: {
      arch: cpu.arch,
      model: cpu.model,
      vendor: cpu.vendor,
      topology: { cells: cpu.numaCells, sockets: cpu.sockets, cores: cpu.cores, threads: cpu.threads },
      ...(cpu.maxPhysAddr && { maxphysaddr: cpu.maxPhysAddr }),
      features: [...cpu.features].sort(),
    },
    supportedInstances: [['x86_64', settings.libvirt.virtType, 'hvm']],
    traits: [
      ...driverTraits(settings),
      ...cpuTraits(features),
      ...(cpu.threads > 1 ? ['HW_CPU_HYPERTHREADING'] : []),
    ],
  };
}

/** Memory in files is what the operator says, less what guests have of it. */
async function fileMemory(
  connection: LibvirtConnection,
  totalMb: number,
): Promise<{ totalMb: number; usedMb: number }> {
  const usedKib = await Promise.all((await connection.listAll()).map(usedMemoryKib));
  return { totalMb, usedMb: Math.floor(usedKib.reduce((sum, kib) => sum + kib, 0) / 1024) };
}

/** Megabytes of memory, free ones counted as Nova does: free, buffers and cache. */
export function parseMemory(meminfo: string): { totalMb: number; usedMb: number } {
  const kib = (name: string): number => {
    const value = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1];
    if (value === undefined) throw new Error(`/proc/meminfo has no ${name}`);
    return Number(value);
  };
  const totalMb = Math.floor(kib('MemTotal') / 1024);
  const availableKib = kib('MemFree') + kib('Buffers') + kib('Cached');
  return { totalMb, usedMb: totalMb - Math.floor(availableKib / 1024) };
}

/** What servers can ask of this driver by traits. */
function driverTraits({ libvirt }: DriverSettings): string[] {
  const models = (prefix: string, names: readonly string[]): string[] =>
    names.map((name) => `COMPUTE_${prefix}_${name.toUpperCase()}`);
  return [
    'COMPUTE_NODE',
    'COMPUTE_ARCH_X86_64',
    'HW_ARCH_X86_64',
    'COMPUTE_FIRMWARE_BIOS',
    'COMPUTE_NET_ATTACH_INTERFACE',
    'COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG',
    'COMPUTE_TRUSTED_CERTS',
    ...(libvirt.swtpmEnabled ? ['COMPUTE_SECURITY_TPM_1_2', 'COMPUTE_SECURITY_TPM_2_0'] : []),
    ...models('IMAGE_TYPE', ['qcow2', 'raw']),
    ...models('STORAGE_BUS', DISK_BUSES),
    ...models('NET_VIF_MODEL', VIF_MODELS),
    ...models('GRAPHICS_MODEL', VIDEO_MODELS),
  ];
}

/** Names of the features that guests of this host see. */
async function guestCpuFeatures(
  connection: LibvirtConnection,
  { cpu }: HostCapabilities,
  settings: DriverSettings,
): Promise<string[]> {
  const named = (model: string | undefined): string =>
    toXml('cpu', { arch: cpu.arch, model: model ?? DEFAULT_CPU_MODEL, topology: ONE_CPU });
  const mode = cpuMode(settings);
  const xml =
    mode === 'none'
      ? named(DEFAULT_CPU_MODEL)
      : mode === 'custom'
        ? named(settings.libvirt.cpuModels[0])
        : cpu.xml;
  const expanded = readXml(await connection.expandCpu(xml), expandedCpuSchema);
  return expanded.cpu.feature.map((feature) => feature['@name']);
}

const ONE_CPU = { '@sockets': 1, '@cores': 1, '@threads': 1 };

/** Bytes that the disks of this host's servers may still grow by. */
async function overcommitted(instances: InstanceStore): Promise<number> {
  let bytes = 0;
  for (const uuid of await instances.list()) {
    const { disk, ephemeral, swap } = instances.paths(uuid);
    for (const path of [disk, ephemeral, swap]) bytes += await growthBytes(path);
  }
  return bytes;
}

async function growthBytes(path: string): Promise<number> {
  try {
    const file = await open(path, 'r');
    try {
      const { blocks, size } = await file.stat();
      const { buffer, bytesRead } = await file.read(Buffer.alloc(QCOW2_HEADER_BYTES), 0, undefined, 0);
      return Math.max(virtualSize(buffer.subarray(0, bytesRead), size) - blocks * 512, 0);
    } finally {
      await file.close();
    }
  } catch (error) {
    // Being made or removed right now.
    if (isErrno(error, 'ENOENT')) return 0;
    throw error;
  }
}

/** Size a guest sees of one of this host's own disks, which unlike images may have a backing file. */
function virtualSize(header: Buffer, fileBytes: number): number {
  const isQcow2 = header.length >= 32 && header.toString('latin1', 0, 4) === 'QFI\xfb';
  return isQcow2 ? Number(header.readBigUInt64BE(24)) : fileBytes;
}
