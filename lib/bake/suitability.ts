/** Whether a server can start from a µVM at all, by what its image and flavor ask for; if not, why, in words. */
import {
  DEFAULT_MACHINE_TYPE,
  type FlavorSpec,
  type ImageSpec,
  type UvmPlatform,
} from '../../drivers/driver';
import { imagePolicy } from './image-policy';
import { HOTPLUG_STEP_MB } from './uvm-key';

/** Image properties that ask for hardware, and the values that a µVM's fixed hardware satisfies; any other `hw_*` has none. */
const HARDWARE: Readonly<Record<string, readonly string[]>> = {
  hw_architecture: ['x86_64'],
  hw_disk_bus: ['virtio'],
  hw_vif_model: ['virtio'],
  hw_rng_model: ['virtio'],
  hw_firmware_type: ['bios'],
  hw_video_model: ['vga', 'virtio'],
  hw_machine_type: [DEFAULT_MACHINE_TYPE],
  hw_serial_port_count: ['1'],
  hw_watchdog_action: ['disabled'],
  os_type: ['linux'],
};
const ASKS_FOR_HARDWARE = /^(hw_|os_type$|img_hide_hypervisor_id$|(kernel|ramdisk)_id$)/;
/** What a µVM's hardware has to do with in no case: the guest's agent, and how a server is rescued. */
const NO_HARDWARE = /^hw_(qemu_guest_agent|rescue_bus|rescue_device|vm_mode)$/;
/** Asks for nothing. */
const NO = /^(false|f|no|n|off|0|)$/i;
/** Extra specs that ask for what a µVM does not have. Limits of disks and NICs are no hardware. */
const FLAVOR_HARDWARE = /^(hw[:_]|hide_hypervisor_id$|quota:cpu_|pci_passthrough:|accel:)/;
/**
 * Added memory, as a multiple of the µVM's own: the kernel keeps 16 bytes of records per KiB that is added, and has nothing
 * but the µVM's memory to keep them in before the new one is in use.
 */
const MAX_GROWTH = 16;
/** `windows`, and libosinfo's short ids of its versions (`win2k22`, `win10` ...). */
const WINDOWS = /^win/i;

/** Why this image has no µVM and will not get one, or undefined. */
export function imageObstacle(image: ImageSpec): string | undefined {
  const { properties } = image;
  const { bake, problem } = imagePolicy(image);
  if (bake === 'never') return 'the image says prebake=never';
  if (problem !== null) return problem;
  const distribution = properties['os_distro'];
  if (distribution !== undefined && WINDOWS.test(distribution)) {
    return `the image says os_distro=${distribution}: a µVM becomes a server through cloud-init`;
  }
  const asked = Object.entries(properties).find(
    ([name, wanted]) =>
      ASKS_FOR_HARDWARE.test(name) &&
      !NO_HARDWARE.test(name) &&
      !NO.test(wanted) &&
      HARDWARE[name]?.includes(wanted) !== true,
  );
  return asked === undefined ? undefined : `the image asks for ${asked.join('=')}`;
}

/** Why a µVM with so much memory cannot be grown to this flavor, or undefined. */
export function flavorObstacle(
  flavor: FlavorSpec,
  memoryMb: number,
  platform: UvmPlatform,
): string | undefined {
  const spec = Object.keys(flavor.extraSpecs).find((name) => FLAVOR_HARDWARE.test(name));
  if (spec !== undefined) return `the flavor asks for ${spec}`;
  if (flavor.vcpus > platform.maxVcpus) {
    return `the flavor has ${flavor.vcpus} vCPUs, a µVM ${platform.maxVcpus} at most`;
  }
  if (flavor.memoryMb < memoryMb) {
    return `the flavor has ${flavor.memoryMb} MiB of memory, the µVM ${memoryMb}`;
  }
  if (flavor.memoryMb > platform.maxMemoryMb) {
    return `the flavor has ${flavor.memoryMb} MiB of memory, a µVM ${platform.maxMemoryMb} at most`;
  }
  if (flavor.memoryMb > memoryMb * (1 + MAX_GROWTH)) {
    return (
      `the flavor has ${flavor.memoryMb} MiB of memory, a µVM of ${memoryMb} can be given ${memoryMb * MAX_GROWTH} more ` +
      "at most (the image's property prebake_min_memory_mb makes it larger)"
    );
  }
  if ((flavor.memoryMb - memoryMb) % HOTPLUG_STEP_MB !== 0) {
    return `the flavor's memory is not the µVM's ${memoryMb} MiB and a multiple of ${HOTPLUG_STEP_MB}`;
  }
  return undefined;
}
