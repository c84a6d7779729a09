/**
 * What a running guest has used so far: processors, memory, disks, NICs
 * (nova/virt/libvirt/driver.py: get_diagnostics, get_instance_diagnostics).
 */
import { z } from 'zod';
import { InstanceNotFound } from '../../lib/exceptions';
import type { GuestDiagnostics } from '../driver';
import { binding } from './binding';
import { DomainState, type Domain } from './domain';
import { isLibvirtError } from './libvirt-error';
import { readXml } from './xml-reader';

/** sizeof virVcpuInfo, virDomainBlockStatsStruct, virDomainInterfaceStatsStruct, virDomainMemoryStatStruct, virDomainInfo */
const VCPU_BYTES = 24;
const BLOCK_BYTES = 40;
const INTERFACE_BYTES = 64;
const MEMORY_BYTES = 16;
const INFO_BYTES = 40;
/** virDomainMemoryStatTags in order of their numbers, in the words of libvirt's own binding for Python. */
const MEMORY_TAGS = [
  'swap_in',
  'swap_out',
  'major_fault',
  'minor_fault',
  'unused',
  'available',
  'actual',
  'rss',
  'usable',
  'last_update',
  'disk_caches',
  'hugetlb_pgalloc',
  'hugetlb_pgfail',
] as const;

const list = <T extends z.ZodType>(item: T) =>
  z.union([z.array(item), item.transform((one) => [one])]).optional();
const devicesSchema = z.object({
  domain: z.object({
    devices: z.object({
      disk: list(z.object({ target: z.object({ '@dev': z.string() }) })),
      interface: list(
        z.object({
          mac: z.object({ '@address': z.string() }),
          target: z.object({ '@dev': z.string() }).optional(),
        }),
      ),
    }),
  }),
});

/** Memory that a guest has right now; none when it does not run, or went away meanwhile. */
export async function usedMemoryKib(domain: Domain): Promise<number> {
  try {
    if ((await domain.state()).state === DomainState.SHUTOFF) return 0;
    return number((await domainInfo(domain)).data, 16);
  } catch (error) {
    if (error instanceof InstanceNotFound) return 0;
    throw error;
  }
}

async function domainInfo(domain: Domain): ReturnType<Domain['fill']> {
  return await domain.fill('virDomainGetInfo', INFO_BYTES, (d, into) => binding().virDomainGetInfo(d, into));
}

/** Reads the counters of a running guest. What libvirt cannot tell is left out. */
export async function readDiagnostics(domain: Domain): Promise<GuestDiagnostics> {
  const { devices } = readXml(await domain.xmlDesc(), devicesSchema).domain;
  const info = await domainInfo(domain);
  const vcpus = info.data.readUInt16LE(24);
  const disks: GuestDiagnostics['disks'][number][] = [];
  for (const { target } of devices.disk ?? []) {
    const stats = await told(() => blockStats(domain, target['@dev']));
    if (stats !== null) disks.push({ device: target['@dev'], ...stats });
  }
  const nics: GuestDiagnostics['nics'][number][] = [];
  for (const { mac, target } of devices.interface ?? []) {
    const device = target?.['@dev'] ?? null;
    const counters = device === null ? null : await told(() => interfaceStats(domain, device));
    nics.push({ macAddress: mac['@address'], device, counters });
  }
  return {
    maxMemoryKib: number(info.data, 8),
    memoryKib: number(info.data, 16),
    cpuTimesNs: (await told(() => cpuTimes(domain, vcpus))) ?? [],
    memory: (await told(() => memoryStats(domain))) ?? {},
    disks,
    nics,
  };
}

async function cpuTimes(domain: Domain, vcpus: number): Promise<number[]> {
  const { count, data } = await domain.fill('virDomainGetVcpus', vcpus * VCPU_BYTES, (d, into) =>
    binding().virDomainGetVcpus(d, into, vcpus, null, 0),
  );
  return Array.from({ length: count }, (_, index) => number(data, index * VCPU_BYTES + 8));
}

async function blockStats(
  domain: Domain,
  disk: string,
): Promise<Omit<GuestDiagnostics['disks'][number], 'device'>> {
  const { data } = await domain.fill('virDomainBlockStats', BLOCK_BYTES, (d, into) =>
    binding().virDomainBlockStats(d, disk, into, BLOCK_BYTES),
  );
  return {
    readRequests: number(data, 0),
    readBytes: number(data, 8),
    writeRequests: number(data, 16),
    writeBytes: number(data, 24),
    errors: number(data, 32),
  };
}

async function interfaceStats(
  domain: Domain,
  device: string,
): Promise<NonNullable<GuestDiagnostics['nics'][number]['counters']>> {
  const { data } = await domain.fill('virDomainInterfaceStats', INTERFACE_BYTES, (d, into) =>
    binding().virDomainInterfaceStats(d, device, into, INTERFACE_BYTES),
  );
  const direction = (offset: number) => ({
    bytes: number(data, offset),
    packets: number(data, offset + 8),
    errors: number(data, offset + 16),
    drops: number(data, offset + 24),
  });
  return { received: direction(0), sent: direction(32) };
}

async function memoryStats(domain: Domain): Promise<Record<string, number>> {
  const size = MEMORY_TAGS.length * MEMORY_BYTES;
  const { count, data } = await domain.fill('virDomainMemoryStats', size, (d, into) =>
    binding().virDomainMemoryStats(d, into, MEMORY_TAGS.length, 0),
  );
  const stats: Record<string, number> = {};
  for (let offset = 0; offset < count * MEMORY_BYTES; offset += MEMORY_BYTES) {
    const tag = MEMORY_TAGS[data.readInt32LE(offset)];
    if (tag !== undefined) stats[tag] = number(data, offset + 8);
  }
  return stats;
}

function number(data: Buffer, offset: number): number {
  return Number(data.readBigInt64LE(offset));
}

/** Null for what libvirt refuses to tell. */
async function told<T>(ask: () => Promise<T>): Promise<T | null> {
  try {
    return await ask();
  } catch (error) {
    if (isLibvirtError(error)) return null;
    throw error;
  }
}
