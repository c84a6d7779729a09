/** The virtual hardware a server gets: its image's `hw_*` properties, checked against what this driver provides. */
import {
  ImageSerialPortNumberExceedFlavorValue,
  ImageSerialPortNumberInvalid,
  ImageUnacceptable,
  SecureBootNotSupported,
} from '../../lib/exceptions';
import type { ImageSpec, InstanceSpec } from '../driver';
import { type GuestOptions, guestOptions, INPUT_BUSES } from './guest-options';
import type { DiskBus } from './xml';

export const DISK_BUSES = ['virtio', 'scsi', 'sata', 'ide'] as const satisfies readonly DiskBus[];
export const VIF_MODELS = ['virtio', 'e1000', 'e1000e', 'rtl8139', 'ne2k_pci', 'pcnet'] as const;
export const FIRMWARES = ['bios', 'uefi'] as const;
export const VIDEO_MODELS = ['virtio', 'vga', 'cirrus', 'qxl', 'none'] as const;

/** What an image may choose. */
export interface Hardware {
  /** Machine type, null for the host's default. */
  readonly machine: string | null;
  /** libvirt keeps the variables of a UEFI in a file of its own, which goes with the domain. */
  readonly firmware: (typeof FIRMWARES)[number];
  readonly diskBus: DiskBus;
  readonly vifModel: string;
  readonly videoModel: string;
  /** Of keyboard and tablet; null for the usual ones. */
  readonly inputBus: (typeof INPUT_BUSES)[number] | null;
  readonly options: GuestOptions;
  readonly rng: boolean;
  readonly guestAgent: boolean;
  /** Windows keeps its hardware clock in local time. */
  readonly localTime: boolean;
}

/** @throws ImageUnacceptable for hardware that is not provided here, and what `guestOptions` does */
export function hardwareOf({ image, flavor }: Pick<InstanceSpec, 'image' | 'flavor'>): Hardware {
  const wanted = image.properties;
  if ((flavor.extraSpecs['os:secure_boot'] ?? wanted.os_secure_boot) === 'required') {
    throw new SecureBootNotSupported('Secure Boot is not supported by host');
  }
  const { hw_machine_type: machine } = wanted;
  if (machine !== undefined && !/^[A-Za-z0-9._-]+$/.test(machine)) {
    throw unacceptable(image, 'hw_machine_type', machine, ['a machine type of QEMU']);
  }
  return {
    machine: machine ?? null,
    firmware: choose(image, 'hw_firmware_type', FIRMWARES, 'bios'),
    diskBus: choose(image, 'hw_disk_bus', DISK_BUSES, 'virtio'),
    vifModel: choose(image, 'hw_vif_model', VIF_MODELS, 'virtio'),
    videoModel: choose(image, 'hw_video_model', VIDEO_MODELS, 'virtio'),
    inputBus: wanted.hw_input_bus === undefined ? null : choose(image, 'hw_input_bus', INPUT_BUSES, 'usb'),
    options: guestOptions({ image, flavor }),
    rng: flavor.extraSpecs['hw_rng:allowed']?.toLowerCase() !== 'false',
    guestAgent: wanted.hw_qemu_guest_agent?.toLowerCase() === 'yes' || wanted.hw_qemu_guest_agent === 'true',
    localTime: wanted.os_type === 'windows',
  };
}

/**
 * How many serial ports a server has: the image may ask for less than the flavor, not for more
 * (nova/virt/hardware.py, get_number_of_serial_ports).
 */
export function serialPortCount({ image, flavor }: Pick<InstanceSpec, 'image' | 'flavor'>): number {
  const [ofFlavor, ofImage] = [
    flavor.extraSpecs['hw:serial_port_count'],
    image.properties.hw_serial_port_count,
  ].map((text) => {
    if (text === undefined) return undefined;
    if (/^[1-4]$/.test(text)) return Number(text);
    throw new ImageSerialPortNumberInvalid(`Number of serial ports must be between 1 and 4, not '${text}'.`);
  });
  if (ofFlavor !== undefined && ofImage !== undefined && ofImage > ofFlavor) {
    throw new ImageSerialPortNumberExceedFlavorValue(
      'Forbidden to exceed flavor value of number of serial ports passed in image meta.',
    );
  }
  return ofImage ?? ofFlavor ?? 1;
}

/** Device name of the root disk (`vda`), as Nova records it. */
export function rootDeviceName(bus: DiskBus): string {
  return `${devicePrefix(bus)}a`;
}

/** What device names begin with on a bus. */
export function devicePrefix(bus: DiskBus): string {
  switch (bus) {
    case 'virtio':
      return 'vd';
    case 'ide':
      return 'hd';
    case 'scsi':
    case 'sata':
    case 'usb':
      return 'sd';
  }
}

function choose<T extends string>(image: ImageSpec, property: string, offered: readonly T[], usual: T): T {
  const wanted = image.properties[property];
  if (wanted === undefined) return usual;
  const chosen = offered.find((value) => value === wanted);
  if (chosen === undefined) throw unacceptable(image, property, wanted, offered);
  return chosen;
}

function unacceptable(image: ImageSpec, property: string, value: string, offered: readonly string[]): Error {
  return new ImageUnacceptable(
    `Image ${image.id} is unacceptable: ${property}=${value} is not provided here (only ${offered.join(', ')})`,
  );
}
