/** Tagged devices as a guest reads of them in `meta_data.json` (nova/api/metadata/base.py, _get_device_metadata). */
import { type Instance, NovaObject } from '../../objects';

/** Words of the guest's interface for Nova's classes. */
const BUSES: Readonly<Record<string, string>> = {
  PCIDeviceBus: 'pci',
  USBDeviceBus: 'usb',
  SCSIDeviceBus: 'scsi',
  IDEDeviceBus: 'ide',
};
const KINDS: Readonly<Record<string, string>> = { NetworkInterfaceMetadata: 'nic', DiskMetadata: 'disk' };
const VLANS_SINCE = '2017-02-22';
const TRUSTED_SINCE = '2018-08-27';

/** The list `devices`, as a version of the metadata has it. */
export function deviceList(instance: Instance, version: string): Readonly<Record<string, unknown>>[] {
  const metadata = field(instance, 'device_metadata');
  const devices = metadata instanceof NovaObject ? field(metadata, 'devices') : [];
  if (!Array.isArray(devices)) return [];
  return devices.flatMap((device: unknown) => {
    const type = device instanceof NovaObject ? KINDS[device.objectName] : undefined;
    if (!(device instanceof NovaObject) || type === undefined) return [];
    const bus = field(device, 'bus');
    const name = bus instanceof NovaObject ? BUSES[bus.objectName] : 'none';
    if (name === undefined) return [];
    return [
      {
        ...(type === 'nic' ? nicFields(device, version) : diskFields(device)),
        type,
        bus: name,
        address: bus instanceof NovaObject && bus.has('address') ? bus.get('address') : 'none',
        ...(device.has('tags') ? { tags: device.get('tags') } : {}),
      },
    ];
  });
}

function nicFields(nic: NovaObject, version: string): Readonly<Record<string, unknown>> {
  return {
    ...(version >= VLANS_SINCE && nic.has('vlan') ? { vlan: nic.get('vlan') } : {}),
    ...(version >= TRUSTED_SINCE ? { vf_trusted: field(nic, 'vf_trusted') === true } : {}),
    mac: nic.get('mac'),
  };
}

function diskFields(disk: NovaObject): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    ['serial', 'path'].filter((name) => disk.has(name)).map((name) => [name, disk.get(name)]),
  );
}

function field(object: NovaObject, name: string): unknown {
  return object.has(name) ? object.get(name) : null;
}
