/** What Nova remembers of devices that a user tagged (nova/objects/virt_device_metadata.py). */
import { NovaObject } from './nova-object';

/** Where a device sits on the guest's PCI bus. */
export class PCIDeviceBus extends NovaObject {
  static readonly className = 'PCIDeviceBus';
}

/** Where a disk is behind its controller. */
export class SCSIDeviceBus extends NovaObject {
  static readonly className = 'SCSIDeviceBus';
}

export class IDEDeviceBus extends NovaObject {
  static readonly className = 'IDEDeviceBus';
}

export class USBDeviceBus extends NovaObject {
  static readonly className = 'USBDeviceBus';
}

/** One tagged disk. */
export class DiskMetadata extends NovaObject {
  static readonly className = 'DiskMetadata';
}

/** One tagged NIC. */
export class NetworkInterfaceMetadata extends NovaObject {
  static readonly className = 'NetworkInterfaceMetadata';
}

/** All tagged devices of a server. */
export class InstanceDeviceMetadata extends NovaObject {
  static readonly className = 'InstanceDeviceMetadata';
}
