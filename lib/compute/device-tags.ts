/**
 * Which of a server's devices its user gave which tag, for the metadata service to tell the guest
 * (nova/virt/libvirt/driver.py, _build_device_metadata).
 */
import type { ComputeDriver } from '../../drivers/driver';
import type { RequestContext } from '../messaging';
import {
  type Instance,
  InstanceDeviceMetadata,
  NetworkInterfaceMetadata,
  PCIDeviceBus,
  createObject,
} from '../objects';
import type { InstanceRecords } from './instance-records';

/** Keeps `Instance.device_metadata`. */
export class DeviceTags {
  constructor(
    private readonly driver: ComputeDriver,
    private readonly records: InstanceRecords,
  ) {}

  /** Writes down the tagged NICs as they are plugged in now. */
  async refresh(context: RequestContext, instance: Instance): Promise<void> {
    const records = await this.records.virtualInterfaces(context, instance.uuid);
    const tags = new Map(
      records.flatMap(({ address, tag }) => (tag === null ? [] : [[macOf(address), tag]])),
    );
    const nics = tags.size === 0 ? [] : await this.driver.listNics(instance.uuid);
    const devices = nics.flatMap(({ macAddress: mac, pciAddress }) => {
      const tag = tags.get(mac);
      if (tag === undefined) return [];
      const bus = pciAddress === null ? {} : { bus: createObject(PCIDeviceBus, { address: pciAddress }) };
      return [createObject(NetworkInterfaceMetadata, { mac, tags: [tag], ...bus })];
    });
    const nothingYet = !instance.has('device_metadata') || instance.get('device_metadata') === null;
    if (devices.length === 0 && nothingYet) return;
    const metadata = devices.length === 0 ? null : createObject(InstanceDeviceMetadata, { devices });
    instance.set('device_metadata', metadata);
    await this.records.save(context, instance);
  }
}

/** Nova stores `mac/port` and mostly tells the first half only. */
function macOf(address: string | null): string {
  return (address ?? '').split('/')[0] ?? '';
}
