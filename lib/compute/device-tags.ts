/**
 * What Nova remembers of NICs and disks that their users tagged: where they sit in the guest, so that the metadata service
 * and the config drive can tell which is which (nova/virt/libvirt/driver.py, _build_device_metadata).
 */
import type { ComputeDriver, GuestDevice, InstanceIdentity, SpawnRequest } from '../../drivers/driver';
import type { RequestContext } from '../messaging';
import {
  DiskMetadata,
  IDEDeviceBus,
  type Instance,
  InstanceDeviceMetadata,
  NetworkInterfaceMetadata,
  PCIDeviceBus,
  SCSIDeviceBus,
  USBDeviceBus,
  createObject,
} from '../objects';
import type { InstanceRecords } from './instance-records';

const BUSES = { pci: PCIDeviceBus, scsi: SCSIDeviceBus, ide: IDEDeviceBus, usb: USBDeviceBus };

/** Tags by what the driver calls a device: a NIC's MAC address, a disk's `vda`. */
export type TagsByDevice = ReadonlyMap<string, string>;

/** Nova's record of the tagged ones among a guest's devices; null when there are none. */
export function deviceMetadata(
  found: readonly GuestDevice[],
  tags: TagsByDevice,
): InstanceDeviceMetadata | null {
  const devices = found.flatMap(({ kind, name, bus }) => {
    const tag = tags.get(name);
    if (tag === undefined) return [];
    const fields = { tags: [tag], ...(bus === null ? {} : { bus: busObject(bus) }) };
    return [
      kind === 'nic'
        ? createObject(NetworkInterfaceMetadata, { mac: name, ...fields })
        : createObject(DiskMetadata, { serial: null, ...fields }),
    ];
  });
  return devices.length === 0 ? null : createObject(InstanceDeviceMetadata, { devices });
}

/** Has a spawn tell of tagged devices, with their places, in the identity that `identity` makes; nothing without tags. */
export function tellingOfDevices(
  instance: Instance,
  tags: TagsByDevice,
  identity: () => InstanceIdentity,
): Pick<SpawnRequest, 'identityWith'> {
  if (tags.size === 0) return {};
  return {
    identityWith: (devices) => {
      instance.set('device_metadata', deviceMetadata(devices, tags));
      return Promise.resolve(identity());
    },
  };
}

/** What the driver calls the disk that is `/dev/vda` to Nova. */
export function diskName(deviceName: string): string {
  return deviceName.replace(/^\/dev\//, '');
}

/** Keeps `Instance.device_metadata`. */
export class DeviceTags {
  constructor(
    private readonly driver: Pick<ComputeDriver, 'listDevices'>,
    private readonly records: InstanceRecords,
  ) {}

  /** Writes down the tagged devices as they are plugged in now. */
  async refresh(context: RequestContext, instance: Instance): Promise<void> {
    const tags = await this.tags(context, instance);
    const found = tags.size === 0 ? [] : await this.driver.listDevices(instance.uuid);
    const metadata = deviceMetadata(found, tags);
    const nothingYet = !instance.has('device_metadata') || instance.get('device_metadata') === null;
    if (metadata === null && nothingYet) return;
    instance.set('device_metadata', metadata);
    await this.records.save(context, instance);
  }

  /** What the user calls the server's devices. */
  async tags(context: RequestContext, { uuid }: Instance): Promise<TagsByDevice> {
    const nics = await this.records.virtualInterfaces(context, uuid);
    const disks = await this.records.blockDeviceMappings(context, uuid);
    return new Map(
      [
        ...nics.map(({ address, tag }) => [macOf(address), tag] as const),
        ...disks.map(({ deviceName, tag }) => [diskName(deviceName ?? ''), tag] as const),
      ].flatMap(([name, tag]) => (tag === null ? [] : [[name, tag] as const])),
    );
  }
}

function busObject({ type, address }: NonNullable<GuestDevice['bus']>): unknown {
  return createObject(BUSES[type], address === null ? {} : { address });
}

/** Nova stores `mac/port` and mostly tells the first half only. */
function macOf(address: string | null): string {
  return (address ?? '').split('/')[0] ?? '';
}
