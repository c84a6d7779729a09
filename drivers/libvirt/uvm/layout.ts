/**
 * The hardware of a µVM. One function writes the domain of the guest that is baked and of every clone, because QEMU
 * loads device state only into a machine that has the same devices at the same places.
 *
 * There is no memory balloon, on purpose: a balloon, and free page reporting with it, lets a guest discard pages, and
 * QEMU discards pages of file-backed RAM in the file, also when the mapping is private. One clone could so change the
 * memory of all others (QEMU warns about it since 8.1).
 */
import type { QemuUser } from '../host-capabilities';
import { screens, serialPorts } from '../consoles';
import { cpuMode, type DriverSettings } from '../settings';
import type { Vif } from '../../../lib/objects';
import {
  agentChannel,
  disk,
  panicNotifier,
  pciSlot,
  portInterface,
  rng,
  smbios,
  toXml,
  video,
  type XmlNode,
} from '../xml';
import type { UvmPlatform } from '../../driver';

/** Raised with every change of what a guest sees: device state of another layout cannot be loaded. */
export const LAYOUT_VERSION = 3;

const DIMM_SLOTS = 16;
const GATE_PORT = 'org.prebake.gate.0';
const NAMESPACE = 'urn:prebake:1';
const SLOT = { video: 2, serial: 3, root: 4, rng: 5, drive: 0x10, nic: 0x11 } as const;
/** Its alias while it is baked, and in a clone that has no port for it. */
const SPARE_NIC = 'ua-spare-nic';

/**
 * Where the guest sees its config drive and its first NIC. Both are there from the bake on, without a driver in the sealed
 * guest: giving a device a driver takes a guest a fraction of the time in which it finds one that was plugged in.
 */
export const SPARES: readonly string[] = [SLOT.drive, SLOT.nic].map(
  (slot) => `0000:00:${slot.toString(16).padStart(2, '0')}.0`,
);
/** A NIC that tells its MTU has more registers; the one of the bake has as many, though libvirt knows no MTU of such networks. */
const NIC_ARGUMENTS = ['-global', 'virtio-net-pci.host_mtu=1500'];
/** QEMU's name of what the NIC of a bake is connected to. */
export const SPARE_NETDEV = `host${SPARE_NIC}`;

/** What differs between guests of one layout. */
export interface UvmDomain {
  readonly name: string;
  readonly uuid: string;
  readonly memoryMb: number;
  readonly platform: UvmPlatform;
  readonly settings: DriverSettings;
  readonly emulatorPath: string;
  /** RAM file, for the libvirt hook. */
  readonly ramPath: string;
  /** Of whom it is to be a copy; the file itself otherwise. */
  readonly ramCopyFor?: QemuUser | undefined;
  /** Directory of the guest's files; what is left when it is gone is a leftover. */
  readonly directory: string;
  readonly diskPath: string;
  /** The config drive: a file that is there. */
  readonly drivePath: string;
  readonly gateSocketPath: string;
  readonly consoleLogPath: string;
  /** TCP port of its serial console; none for guests that nobody looks at, and on hosts without. */
  readonly serialPorts: readonly number[];
  /** Limits of the root disk; a guest cannot tell. */
  readonly ioTune?: XmlNode | undefined;
  /**
   * A guest that is baked writes its RAM file and has a NIC; a clone waits for its NIC (`clonedNicXml` or `spareNicXml`), then
   * for device state.
   */
  readonly role: { readonly bake: { readonly nicMac: string } } | 'clone';
}

/** The domain's XML. */
export function uvmDomainXml(domain: UvmDomain): string {
  const { platform, settings, role } = domain;
  const bake = role === 'clone' ? undefined : role.bake;
  const memory = { '@unit': 'MiB', '#': domain.memoryMb };
  return toXml('domain', {
    '@type': platform.virtType,
    '@xmlns:qemu': 'http://libvirt.org/schemas/domain/qemu/1.0',
    name: domain.name,
    uuid: domain.uuid,
    // A clone's own: the guest's kernel reseeds its random numbers when it changes.
    genid: domain.uuid,
    metadata: {
      'prebake:uvm': {
        '@xmlns:prebake': NAMESPACE,
        '@ram': domain.ramPath,
        '@copy':
          domain.ramCopyFor === undefined ? undefined : `${domain.ramCopyFor.uid}:${domain.ramCopyFor.gid}`,
        '@directory': domain.directory,
      },
    },
    maxMemory: { '@slots': DIMM_SLOTS, '@unit': 'MiB', '#': platform.maxMemoryMb },
    memory,
    memoryBacking: {
      source: { '@type': 'file' },
      access: { '@mode': bake === undefined ? 'private' : 'shared' },
    },
    vcpu: { '@placement': 'static', '@current': 1, '#': platform.maxVcpus },
    // Without it, cloud-init would not look for a metadata service when a clone boots again.
    ...smbios(domain.uuid),
    os: {
      type: { '@arch': 'x86_64', '@machine': platform.machineType, '#': 'hvm' },
      boot: { '@dev': 'hd' },
      smbios: { '@mode': 'sysinfo' },
    },
    features: { acpi: {}, apic: {} },
    cpu: cpu(domain),
    clock: { '@offset': 'utc', timer: timers(platform) },
    // A bake is of one boot: what a guest runs at its first is not run again at the next.
    on_reboot: bake === undefined ? 'restart' : 'destroy',
    on_crash: 'destroy',
    devices: {
      emulator: domain.emulatorPath,
      controller: [
        { '@type': 'usb', '@model': 'none' },
        { '@type': 'virtio-serial', '@index': 0, address: pciSlot(SLOT.serial) },
      ],
      disk: [
        disk({
          path: domain.diskPath,
          format: 'qcow2',
          target: 'vda',
          bus: 'virtio',
          cache: bake === undefined ? 'none' : 'writeback',
          slot: SLOT.root,
          ioTune: domain.ioTune,
        }),
        configDrive(domain.drivePath),
      ],
      interface: bake === undefined ? [] : [spareNic(bake.nicMac, 'up')],
      serial: serialPorts(settings, domain.consoleLogPath, domain.serialPorts),
      channel: [
        {
          '@type': 'unix',
          source: { '@mode': 'bind', '@path': domain.gateSocketPath },
          target: { '@type': 'virtio', '@name': GATE_PORT },
          address: serialPort(1),
        },
        { ...agentChannel(), address: serialPort(2) },
      ],
      graphics: screens(settings),
      video: { ...video('vga'), address: pciSlot(SLOT.video) },
      rng: rng({ slot: SLOT.rng }),
      memballoon: { '@model': 'none' },
      panic: panicNotifier(),
    },
    'qemu:commandline': {
      'qemu:arg': [...NIC_ARGUMENTS, ...(bake === undefined ? ['-incoming', 'defer'] : [])].map((value) => ({
        '@value': value,
      })),
    },
  });
}

/** A `<memory>` device of so many MiB. */
export function dimmXml(sizeMb: number): string {
  return toXml('memory', {
    '@model': 'dimm',
    target: { size: { '@unit': 'MiB', '#': sizeMb }, node: 0 },
  });
}

/** The NIC of a clone's first port, without a carrier or with one. */
export function clonedNicXml(
  vif: Vif,
  options: { readonly link: 'up' | 'down'; readonly bandwidth?: XmlNode | undefined },
): string {
  return toXml('interface', portInterface(vif, { ...options, slot: SLOT.nic }));
}

/** The NIC of a clone that has no port: its cable is in nothing. */
export function spareNicXml(mac: string): string {
  return toXml('interface', spareNic(mac, 'down'));
}

/** A clone's config drive, as it was started with. */
export function configDriveXml(path: string): string {
  return toXml('disk', configDrive(path));
}

/** Named behind all others, where a cold start has it, too. */
function configDrive(path: string): XmlNode {
  return disk({ path, format: 'raw', target: 'vdz', bus: 'virtio', readonly: true, slot: SLOT.drive });
}

/** Goes nowhere: QEMU's own user network without addresses the guest could use. */
function spareNic(mac: string, link: 'up' | 'down'): XmlNode {
  return {
    '@type': 'user',
    mac: { '@address': mac },
    model: { '@type': 'virtio' },
    link: { '@state': link },
    alias: { '@name': SPARE_NIC },
    address: pciSlot(SLOT.nic),
  };
}

function serialPort(port: number): XmlNode {
  return { '@type': 'virtio-serial', '@controller': 0, '@bus': 0, '@port': port };
}

function cpu({ platform, settings, memoryMb }: UvmDomain): XmlNode {
  const last = platform.maxVcpus - 1;
  const shape = {
    topology: { '@sockets': platform.maxVcpus, '@dies': 1, '@cores': 1, '@threads': 1 },
    numa: {
      cell: { '@id': 0, '@cpus': last === 0 ? '0' : `0-${last}`, '@memory': memoryMb, '@unit': 'MiB' },
    },
  };
  const mode = cpuMode(settings);
  if (mode === 'none' || mode === 'custom') {
    return {
      '@mode': 'custom',
      '@match': 'exact',
      '@check': 'none',
      model: { '@fallback': 'forbid', '#': cpuModelName(settings) },
      ...shape,
    };
  }
  return { '@mode': mode, '@check': mode === 'host-model' ? 'partial' : 'none', ...shape };
}

/** Name of the CPU model when nova.conf names one or none; `qemu64` is what QEMU takes by itself. */
export function cpuModelName(settings: DriverSettings): string {
  return (cpuMode(settings) === 'custom' ? settings.libvirt.cpuModels[0] : undefined) ?? 'qemu64';
}

/** As in the XML of cold starts. */
function timers({ virtType }: UvmPlatform): XmlNode[] {
  const policies =
    virtType === 'kvm'
      ? [
          { '@name': 'pit', '@tickpolicy': 'delay' },
          { '@name': 'rtc', '@tickpolicy': 'catchup' },
        ]
      : [];
  return [...policies, { '@name': 'hpet', '@present': 'no' }];
}
