/**
 * Which device of a guest is what: its root, its ephemeral disk, its swap (nova/block_device.py, instance_block_mapping).
 * cloud-init mounts the last two by it; it is only in the EC2 part of the metadata.
 */
import type { FlavorSpec } from '../../../drivers/driver';
import type { Instance } from '../../objects';

/** The versions of the EC2 metadata that Nova writes to a config drive by default. */
export const EC2_VERSIONS = ['2009-04-04', 'latest'] as const;

/** What the names of disks begin with, by the bus the image asks for. */
const DISK_PREFIXES: Readonly<Record<string, string>> = { ide: 'hd', scsi: 'sd', sata: 'sd' };

/** The bus of a server's disks. */
export function diskBus(instance: Instance): string {
  return instance.systemMetadata['image_hw_disk_bus'] ?? 'virtio';
}

/** What the names of a server's disks begin with. */
export function diskPrefix(instance: Instance): string {
  return DISK_PREFIXES[diskBus(instance)] ?? 'vd';
}

/** @param prefix what the names of disks begin with on their bus: `vd`, `sd`, `hd` */
export function blockDeviceMapping(
  { ephemeralGb, swapMb }: Pick<FlavorSpec, 'ephemeralGb' | 'swapMb'>,
  prefix: string,
): Readonly<Record<string, string>> {
  const extra = [...(ephemeralGb > 0 ? ['ephemeral0'] : []), ...(swapMb > 0 ? ['swap'] : [])];
  return {
    ami: `${prefix}a`,
    root: `/dev/${prefix}a`,
    ...Object.fromEntries(extra.map((name, index) => [name, `/dev/${prefix}${'bc'.charAt(index)}`])),
  };
}
