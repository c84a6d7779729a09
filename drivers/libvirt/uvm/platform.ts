/** What a µVM of this host depends on besides its image. */
import { createHash } from 'node:crypto';
import type { UvmPlatform } from '../../driver';
import type { LibvirtConnection } from '../connection';
import type { HostCapabilities } from '../host-capabilities';
import { cpuMode, type DriverSettings } from '../settings';
import { cpuModelName, LAYOUT_VERSION } from './layout';

/** Limits of a µVM: what a clone can be grown to. */
export interface UvmLimits {
  readonly maxVcpus: number;
  readonly maxMemoryMb: number;
}

/** The platform of this host as it is now. */
export async function readPlatform(
  connection: LibvirtConnection,
  capabilities: HostCapabilities,
  settings: DriverSettings,
  limits: UvmLimits,
): Promise<UvmPlatform> {
  return {
    virtType: settings.libvirt.virtType,
    machineType: capabilities.machineType,
    cpuModel: cpuIdentity(settings, capabilities),
    qemuMajorVersion: Math.floor((await connection.hypervisorVersion()) / 1_000_000),
    firmware: 'bios',
    layoutVersion: LAYOUT_VERSION,
    maxVcpus: Math.min(limits.maxVcpus, capabilities.maxVcpus),
    maxMemoryMb: limits.maxMemoryMb,
  };
}

/** A named model is the same everywhere; one made from the host's CPU is not. */
function cpuIdentity(settings: DriverSettings, { cpu }: HostCapabilities): string {
  const mode = cpuMode(settings);
  if (mode === 'none' || mode === 'custom') return cpuModelName(settings);
  return `${mode}:${createHash('sha256').update(cpu.xml).digest('hex').slice(0, 16)}`;
}
