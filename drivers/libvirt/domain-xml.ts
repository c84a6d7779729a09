/**
 * The domain of a server that boots from its disk, modelled on what Nova's libvirt driver writes
 * (nova/virt/libvirt/driver.py, _get_guest_config). A clone of a µVM is defined with it, too, for its later starts.
 */
import type { NetworkInfo } from '../../lib/objects';
import type { InstanceSpec } from '../driver';
import { hasScreen, screens, serialPorts } from './consoles';
import { cpuTopology, type CpuTopology } from './cpu-topology';
import type { GuestOptions } from './guest-options';
import { devicePrefix, hardwareOf, type Hardware } from './hardware';
import type { InstancePaths } from './instance-store';
import { bandwidth, cpuTune, ioTune } from './quotas';
import { cpuMode, type DriverSettings } from './settings';
import {
  agentChannel,
  disk,
  panicNotifier,
  portInterface,
  rng,
  smbios,
  spiceChannel,
  toXml,
  video,
  type DiskBus,
  type InterfaceOptions,
  type XmlNode,
} from './xml';
import { tpm } from './vtpm';

const NOVA_NAMESPACE = 'http://openstack.org/xmlns/libvirt/nova/1.1';
/** An IDE controller has two channels of two drives; SATA six ports. Elsewhere the last letter is as good as any. */
const LAST_DEVICE = { ide: 'd', sata: 'f', scsi: 'z', virtio: 'z', usb: 'z' } as const;

/** Files of the server that exist besides its root disk. */
export interface ExtraDisks {
  readonly ephemeral: boolean;
  readonly swap: boolean;
  readonly configDrive: boolean;
}

export interface ColdDomain {
  readonly instance: InstanceSpec;
  readonly network: NetworkInfo;
  readonly paths: InstancePaths;
  readonly extras: ExtraDisks;
  /** TCP ports of its serial consoles; none on hosts without. */
  readonly serialPorts: readonly number[];
  readonly settings: DriverSettings;
  readonly emulatorPath: string;
  /** Machine type for images that do not choose one. */
  readonly machineType: string;
  /** Of a rescued server: its disks; the one to boot from says so itself. */
  readonly rescue?: { readonly disks: readonly XmlNode[]; readonly bus: DiskBus };
}

/** The XML of a server's domain. @throws ImageUnacceptable, Invalid for hardware that is not provided here */
export function coldDomainXml(domain: ColdDomain): string {
  const { instance, settings } = domain;
  const hardware = hardwareOf(instance);
  const { options } = hardware;
  return toXml('domain', {
    '@type': settings.libvirt.virtType,
    uuid: instance.uuid,
    name: instance.name,
    metadata: novaMetadata(domain),
    memory: { '@unit': 'KiB', '#': instance.flavor.memoryMb * 1024 },
    memoryBacking: settings.libvirt.fileBackedMemory > 0 ? fileBacking() : undefined,
    vcpu: { '@placement': 'static', '#': instance.flavor.vcpus },
    cputune: cpuTune(instance.flavor),
    ...smbios(instance.uuid),
    os: {
      '@firmware': hardware.firmware === 'uefi' ? 'efi' : undefined,
      type: { '@arch': 'x86_64', '@machine': hardware.machine ?? domain.machineType, '#': 'hvm' },
      firmware:
        hardware.firmware === 'uefi' ? { feature: { '@enabled': 'no', '@name': 'secure-boot' } } : undefined,
      boot: domain.rescue === undefined ? { '@dev': 'hd' } : undefined,
      bootmenu: options.bootMenu ? { '@enable': 'yes' } : undefined,
      smbios: { '@mode': 'sysinfo' },
    },
    features: features(options),
    clock: clock(settings, hardware),
    cpu: cpu(settings, cpuTopology(instance)),
    on_reboot: 'restart',
    on_crash: 'destroy',
    devices: {
      emulator: domain.emulatorPath,
      controller: controllers([hardware.diskBus, domain.rescue?.bus]),
      disk: domain.rescue?.disks ?? usualDisks(domain, hardware),
      interface: domain.network.map((vif) => portInterface(vif, interfaceOptions(instance, settings))),
      serial: serialPorts(settings, domain.paths.consoleLog, domain.serialPorts),
      input: inputs(settings, hardware),
      channel: [
        ...(hardware.guestAgent ? [agentChannel()] : []),
        ...(settings.spice.enabled && settings.spice.agentEnabled ? [spiceChannel()] : []),
      ],
      graphics: screens(settings),
      video: video(hasScreen(settings) ? hardware.videoModel : 'none', options.videoRamKib),
      rng: hardware.rng ? [rng({ rate: options.rngRate })] : [],
      watchdog:
        options.watchdogAction === null
          ? undefined
          : { '@model': 'i6300esb', '@action': options.watchdogAction },
      memballoon: { '@model': 'virtio', stats: { '@period': 10 } },
      panic: panicNotifier(),
      tpm: tpm(instance),
    },
  });
}

/** Memory in a file that QEMU makes below libvirt's `memory_backing_dir`, of its full size at once; discarded with the guest. */
function fileBacking(): XmlNode {
  return {
    source: { '@type': 'file' },
    access: { '@mode': 'shared' },
    allocation: { '@mode': 'immediate' },
    discard: {},
  };
}

/** Tells people and tools on the host which server a domain is (`virsh dumpxml`). */
function novaMetadata({ instance, network }: ColdDomain): XmlNode {
  const { flavor } = instance;
  return {
    'nova:instance': {
      '@xmlns:nova': NOVA_NAMESPACE,
      'nova:name': instance.displayName,
      'nova:flavor': {
        '@name': flavor.name,
        'nova:memory': flavor.memoryMb,
        'nova:disk': flavor.rootGb,
        'nova:swap': flavor.swapMb,
        'nova:ephemeral': flavor.ephemeralGb,
        'nova:vcpus': flavor.vcpus,
      },
      'nova:owner': {
        'nova:user': { '@uuid': instance.userId },
        'nova:project': { '@uuid': instance.projectId },
      },
      'nova:root': { '@type': 'image', '@uuid': instance.image.id },
      'nova:ports': { 'nova:port': network.map((vif) => ({ '@uuid': vif.id })) },
    },
  };
}

function clock({ libvirt }: DriverSettings, { localTime, options }: Hardware): XmlNode {
  // Emulated time needs no help to catch up, and QEMU's emulation refuses the policies.
  const policies =
    libvirt.virtType === 'kvm'
      ? [
          { '@name': 'pit', '@tickpolicy': 'delay' },
          { '@name': 'rtc', '@tickpolicy': 'catchup' },
        ]
      : [];
  return {
    '@offset': localTime ? 'localtime' : 'utc',
    timer: [...policies, { '@name': 'hpet', '@present': options.hpet ? 'yes' : 'no' }],
  };
}

function cpu(settings: DriverSettings, { sockets, cores, threads }: CpuTopology): XmlNode {
  const topology = { '@sockets': sockets, '@cores': cores, '@threads': threads };
  const mode = cpuMode(settings);
  if (mode === 'none') return { topology };
  if (mode !== 'custom')
    return { '@mode': mode, '@check': mode === 'host-model' ? 'partial' : 'none', topology };
  return { '@mode': 'custom', '@match': 'exact', model: settings.libvirt.cpuModels[0], topology };
}

function features({ pmu, hideHypervisorId }: GuestOptions): XmlNode {
  return {
    acpi: {},
    apic: {},
    kvm: hideHypervisorId ? { hidden: { '@state': 'on' } } : undefined,
    pmu: pmu === null ? undefined : { '@state': pmu ? 'on' : 'off' },
  };
}

/** Nobody types where nobody looks; SPICE's agent moves the pointer itself. */
function inputs(settings: DriverSettings, { inputBus }: Hardware): XmlNode[] {
  if (!hasScreen(settings)) return [];
  const byAgent = settings.spice.enabled && settings.spice.agentEnabled && !settings.vnc.enabled;
  return [
    ...(byAgent ? [] : [{ '@type': 'tablet', '@bus': inputBus ?? 'usb' }]),
    ...(inputBus === null ? [] : [{ '@type': 'keyboard', '@bus': inputBus }]),
  ];
}

/** What each NIC of a server has. */
export function interfaceOptions(
  instance: Pick<InstanceSpec, 'flavor' | 'image'>,
  { libvirt }: DriverSettings,
): InterfaceOptions {
  const { vifModel, options } = hardwareOf(instance);
  const multiqueue = options.vifMultiqueue && vifModel === 'virtio' && libvirt.virtType === 'kvm';
  return {
    model: vifModel,
    bandwidth: bandwidth(instance.flavor),
    ...(multiqueue ? { queues: instance.flavor.vcpus } : {}),
  };
}

function controllers(buses: readonly (DiskBus | undefined)[]): XmlNode[] {
  const usb = { '@type': 'usb', '@model': 'piix3-uhci' };
  return buses.includes('scsi') ? [usb, { '@type': 'scsi', '@model': 'virtio-scsi' }] : [usb];
}

/** The disks of a server that is not rescued. */
export function usualDisks(
  { instance, paths, extras }: Pick<ColdDomain, 'instance' | 'paths' | 'extras'>,
  { diskBus }: Pick<Hardware, 'diskBus'>,
): XmlNode[] {
  const prefix = devicePrefix(diskBus);
  const writable = [
    { path: paths.disk, format: 'qcow2' as const },
    ...(extras.ephemeral ? [{ path: paths.ephemeral, format: 'raw' as const }] : []),
    ...(extras.swap ? [{ path: paths.swap, format: 'raw' as const }] : []),
  ];
  const elements = writable.map((file, index) =>
    disk({
      ...file,
      bus: diskBus,
      target: `${prefix}${letter(index)}`,
      ioTune: ioTune(instance.flavor),
    }),
  );
  if (extras.configDrive) {
    elements.push(
      disk({
        path: paths.configDrive,
        format: 'raw',
        bus: diskBus,
        // Read-only disks exist on virtio only; a guest without virtio drivers knows CD-ROMs.
        device: diskBus === 'virtio' ? 'disk' : 'cdrom',
        target: `${prefix}${LAST_DEVICE[diskBus]}`,
        readonly: true,
      }),
    );
  }
  return elements;
}

function letter(index: number): string {
  return String.fromCharCode('a'.charCodeAt(0) + index);
}
