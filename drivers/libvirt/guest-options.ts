/**
 * What else a flavor's extra specs and an image's properties ask of a server's virtual hardware: read as Nova reads it
 * (nova/virt/libvirt/driver.py: _set_features, _guest_add_watchdog_action, _add_rng_device, _add_video_driver ...), or, where
 * this driver does not do it, refused by name: a server that silently lacks what it was promised is worse than none.
 */
import {
  ComputeResourcesUnavailable,
  FlavorImageConflict,
  Invalid,
  InvalidWatchdogAction,
  RequestedVRamTooHigh,
} from '../../lib/exceptions';
import type { InstanceSpec } from '../driver';

type Wishes = Pick<InstanceSpec, 'image' | 'flavor'>;

const WATCHDOG_ACTIONS = ['none', 'pause', 'poweroff', 'reset'] as const;
export const INPUT_BUSES = ['usb', 'virtio'] as const;

/** Beside disks, NICs and screens. */
export interface GuestOptions {
  /** null leaves it to the hypervisor. */
  readonly pmu: boolean | null;
  readonly hideHypervisorId: boolean;
  readonly hpet: boolean;
  readonly bootMenu: boolean;
  /** What the watchdog does when the guest no longer feeds it; null for a guest without one. */
  readonly watchdogAction: (typeof WATCHDOG_ACTIONS)[number] | null;
  /** Of the random number generator, null without a limit. */
  readonly rngRate: { readonly bytes: number; readonly periodMs: number } | null;
  /** KiB, null for the hypervisor's default. */
  readonly videoRamKib: number | null;
  /** Whether each NIC has a queue for each vCPU; a matter of KVM. */
  readonly vifMultiqueue: boolean;
}

/** @throws Invalid and what is derived from it, FlavorImageConflict, RequestedVRamTooHigh, ComputeResourcesUnavailable */
export function guestOptions(wishes: Wishes): GuestOptions {
  refuseWhatIsNotDone(wishes);
  const { flavor, image } = wishes;
  const { extraSpecs } = flavor;
  const { properties } = image;
  return {
    pmu: agreed(wishes, 'pmu'),
    hideHypervisorId: [
      extraSpecs.hide_hypervisor_id,
      extraSpecs['hw:hide_hypervisor_id'],
      properties.img_hide_hypervisor_id,
    ].some(isTrue),
    hpet: isTrue(properties.hw_time_hpet),
    bootMenu: isTrue(properties.hw_boot_menu ?? extraSpecs['hw:boot_menu']),
    watchdogAction: watchdogAction(wishes),
    rngRate: rngRate(wishes),
    videoRamKib: videoRamKib(wishes),
    vifMultiqueue: flavor.vcpus > 1 && agreed(wishes, 'vif_multiqueue_enabled') === true,
  };
}

function watchdogAction({ flavor, image }: Wishes): GuestOptions['watchdogAction'] {
  const wanted =
    image.properties.hw_watchdog_action ?? (flavor.extraSpecs['hw:watchdog_action'] || 'disabled');
  if (wanted === 'disabled') return null;
  const action = WATCHDOG_ACTIONS.find((known) => known === wanted);
  if (action !== undefined) return action;
  throw new InvalidWatchdogAction(`Provided watchdog action (${wanted}) is not supported.`);
}

function rngRate({ flavor: { extraSpecs } }: Wishes): GuestOptions['rngRate'] {
  const bytes = number(extraSpecs, 'hw_rng:rate_bytes');
  const periodMs = number(extraSpecs, 'hw_rng:rate_period');
  return bytes > 0 && periodMs > 0 ? { bytes, periodMs } : null;
}

function videoRamKib({ flavor, image }: Wishes): number | null {
  const wantedMib = number(image.properties, 'hw_video_ram');
  const mostMib = number(flavor.extraSpecs, 'hw_video:ram_max_mb');
  if (wantedMib > mostMib) {
    throw new RequestedVRamTooHigh(
      `The requested amount of video memory ${wantedMib} is higher than the maximum allowed by flavor ${mostMib}.`,
    );
  }
  return wantedMib > 0 ? wantedMib * 1024 : null;
}

/** Extra specs and properties that this driver does not act upon, with the values that ask for nothing. */
const NOT_DONE: readonly (readonly [name: RegExp, harmless: RegExp])[] = [
  // Pinning and NUMA, which the scheduler sees to only on hosts that report their topology.
  [/^hw[:_]cpu_policy$/, /^shared$/],
  [/^hw[:_](cpu_realtime|locked_memory|mem_encryption)$/, /^(false|no|off|0|f|n)$/i],
  [/^hw[:_](cpu_(thread_policy|dedicated_mask|realtime_mask)|emulator_threads_policy)$/, /^$/],
  [/^hw[:_](numa_(nodes|mempolicy|cpus\.\d+|mem\.\d+)|mem_page_size)$/, /^$/],
  // Devices of the host.
  [/^(hw:pmem|pci_passthrough:alias|accel:device_profile)$/, /^$/],
  [/^hw[:_]viommu_model$/, /^$/],
  [/^hw_(emulation_)?architecture$/, /^x86_64$/],
  [/^(kernel|ramdisk)_id$/, /^$/],
];

function refuseWhatIsNotDone({ flavor, image }: Wishes): void {
  for (const [name, value] of [...Object.entries(flavor.extraSpecs), ...Object.entries(image.properties)]) {
    const asks = NOT_DONE.some(([names, harmless]) => names.test(name) && !harmless.test(value));
    if (!asks) continue;
    // Another host may do it.
    throw new ComputeResourcesUnavailable(
      `Insufficient compute resources: ${name}=${value} is not provided by prebake-compute.`,
    );
  }
}

/** What flavor and image say of the same thing; null when neither does. */
function agreed({ flavor, image }: Wishes, key: string): boolean | null {
  const [ofFlavor, ofImage] = [flavor.extraSpecs[`hw:${key}`], image.properties[`hw_${key}`]].map((value) =>
    value === undefined ? null : isTrue(value),
  );
  if (ofFlavor !== null && ofImage !== null && ofFlavor !== ofImage) {
    throw new FlavorImageConflict(
      `Flavor ${flavor.name} has hw:${key} extra spec explicitly set to ${String(ofFlavor)}, conflicting with image ` +
        `${image.id} which has hw_${key} explicitly set to ${String(ofImage)}.`,
    );
  }
  return ofFlavor ?? ofImage ?? null;
}

/** As oslo.utils' strutils.bool_from_string. */
function isTrue(value: string | undefined): boolean {
  return value !== undefined && /^(1|t|true|on|y|yes)$/i.test(value.trim());
}

function number(from: Readonly<Record<string, string>>, name: string): number {
  const value = from[name] ?? '0';
  if (!/^\d{1,12}$/.test(value)) throw new Invalid(`${name} has to be a number, not '${value}'`);
  return Number(value);
}
