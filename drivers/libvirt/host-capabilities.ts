/** What libvirt says this host's hypervisor can do, read once per start of the service. */
import { z } from 'zod';
import { NovaException } from '../../lib/exceptions';
import { DEFAULT_MACHINE_TYPE } from '../driver';
import type { LibvirtConnection } from './connection';
import { isLibvirtError } from './libvirt-error';
import { readXml } from './xml-reader';

const valuesSchema = z.union([z.string(), z.array(z.string())]).optional();
const domainCapabilitiesSchema = z.object({
  domainCapabilities: z.object({
    path: z.string(),
    machine: z.string(),
    vcpu: z.object({ '@max': z.coerce.number() }),
    os: z
      .object({ enum: z.array(z.object({ '@name': z.string(), value: valuesSchema })).default([]) })
      .optional(),
  }),
});
/** Owner of a process, `+64055:+64055`, as libvirt's DAC driver writes it. */
const DAC_LABEL = /^\+?(\d+):\+?(\d+)$/;

const secmodelSchema = z.object({
  model: z.string(),
  baselabel: z.array(z.object({ '@type': z.string(), '#': z.string() })).default([]),
});
const hostSchema = z.object({
  capabilities: z.object({
    host: z.object({
      secmodel: z.array(secmodelSchema).default([]),
      cpu: z.object({
        arch: z.string(),
        model: z.string().default(''),
        vendor: z.string().default(''),
        topology: z.object({
          '@sockets': z.coerce.number(),
          '@cores': z.coerce.number(),
          '@threads': z.coerce.number(),
        }),
        maxphysaddr: z.object({ '@mode': z.string(), '@bits': z.coerce.number() }).optional(),
        feature: z.array(z.object({ '@name': z.string() })).default([]),
      }),
      topology: z.object({ cells: z.object({ cell: z.array(z.unknown()).default([]) }) }).optional(),
    }),
  }),
});

/** The host's CPU as libvirt describes it. */
export interface HostCpu {
  readonly arch: string;
  readonly model: string;
  readonly vendor: string;
  readonly sockets: number;
  readonly cores: number;
  readonly threads: number;
  readonly numaCells: number;
  readonly maxPhysAddr: { readonly mode: string; readonly bits: number } | null;
  /** Features beyond those of the model. */
  readonly features: readonly string[];
  /** The `<cpu>` element itself. */
  readonly xml: string;
}

export interface HostCapabilities {
  readonly emulatorPath: string;
  /** Canonical, versioned machine type that `pc` stands for: `pc-i440fx-7.2`. */
  readonly machineType: string;
  readonly maxVcpus: number;
  /** Whether there is a UEFI for guests (Debian: package ovmf). */
  readonly uefi: boolean;
  /** Whom QEMU's processes belong to. */
  readonly qemuUser: QemuUser;
  readonly cpu: HostCpu;
}

/** Owner of processes and files. */
export interface QemuUser {
  readonly uid: number;
  readonly gid: number;
}

const ROOT: QemuUser = { uid: 0, gid: 0 };

/**
 * What libvirt has QEMU run as, from the XML of its capabilities: `user` and `group` of its qemu.conf (libvirt-qemu on
 * Debian), root where its DAC driver is off; and the names of the other security drivers: `apparmor`, `selinux`.
 */
export function readConfinement(capabilities: string): { user: QemuUser; models: readonly string[] } {
  const { secmodel } = readXml(capabilities, hostSchema).capabilities.host;
  const labels = secmodel.find(({ model }) => model === 'dac')?.baselabel ?? [];
  const [, uid, gid] = DAC_LABEL.exec(labels[0]?.['#'] ?? '') ?? [];
  return {
    user: uid === undefined || gid === undefined ? ROOT : { uid: Number(uid), gid: Number(gid) },
    models: secmodel.map(({ model }) => model).filter((model) => model !== 'dac' && model !== 'none'),
  };
}

/** Asks libvirt; rejects when it cannot run x86_64 guests of this virtualisation type at all. */
export async function readHostCapabilities(
  connection: LibvirtConnection,
  virtType: 'qemu' | 'kvm',
): Promise<HostCapabilities> {
  const [host, guests] = await Promise.all([
    connection.capabilities(),
    guestCapabilities(connection, virtType),
  ]);
  const { cpu, topology } = readXml(host, hostSchema).capabilities.host;
  const { path, machine, vcpu, os } = readXml(guests, domainCapabilitiesSchema).domainCapabilities;
  return {
    emulatorPath: path,
    machineType: machine,
    maxVcpus: vcpu['@max'],
    qemuUser: readConfinement(host).user,
    uefi: [os?.enum.find((offer) => offer['@name'] === 'firmware')?.value ?? []].flat().includes('efi'),
    cpu: {
      arch: cpu.arch,
      model: cpu.model,
      vendor: cpu.vendor,
      sockets: cpu.topology['@sockets'],
      cores: cpu.topology['@cores'],
      threads: cpu.topology['@threads'],
      numaCells: Math.max(topology?.cells.cell.length ?? 1, 1),
      maxPhysAddr:
        cpu.maxphysaddr === undefined
          ? null
          : { mode: cpu.maxphysaddr['@mode'], bits: cpu.maxphysaddr['@bits'] },
      features: cpu.feature.map((feature) => feature['@name']),
      xml: /<cpu>[\s\S]*?<\/cpu>/.exec(host)?.[0] ?? '',
    },
  };
}

async function guestCapabilities(connection: LibvirtConnection, virtType: 'qemu' | 'kvm'): Promise<string> {
  try {
    return await connection.domainCapabilities({ arch: 'x86_64', machine: DEFAULT_MACHINE_TYPE, virtType });
  } catch (error) {
    if (!isLibvirtError(error)) throw error;
    throw new NovaException(`libvirt cannot run x86_64 guests with [libvirt] virt_type = ${virtType}`, {
      cause: error,
    });
  }
}
