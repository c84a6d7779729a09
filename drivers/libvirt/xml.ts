/**
 * Building blocks of libvirt's XML: each function describes one element as a plain object, `toXml` writes it. Nothing is
 * put together from strings, so names and addresses from outside cannot become markup.
 */
import { create } from 'xmlbuilder2';
import type { Vif } from '../../lib/objects';

/** An element's content in xmlbuilder2's notation: `@name` is an attribute, `#` text, an array repeats the element. */
export interface XmlNode {
  readonly [key: string]: XmlValue;
}
export type XmlValue = string | number | XmlNode | readonly XmlNode[] | undefined;

/** Writes one element. Characters that XML cannot carry become U+FFFD. */
export function toXml(name: string, content: XmlNode): string {
  return create({ invalidCharReplacement: '\ufffd' }, { [name]: withoutGaps(content) }).end({
    headless: true,
    prettyPrint: true,
  });
}

/** A PCI address on bus 0, function 0. */
export function pciSlot(slot: number): XmlNode {
  return { '@type': 'pci', '@domain': '0x0000', '@bus': '0x00', '@slot': hex(slot), '@function': '0x0' };
}

export type DiskBus = 'virtio' | 'scsi' | 'sata' | 'ide' | 'usb';

export interface DiskOptions {
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  /** Name in the guest's order of disks: `vda`. */
  readonly target: string;
  readonly bus: DiskBus;
  readonly device?: 'disk' | 'cdrom';
  readonly readonly?: boolean;
  /** Default `none`: host page cache bypassed, as Nova does where the file system can. */
  readonly cache?: 'none' | 'writeback';
  readonly bootOrder?: number;
  readonly slot?: number;
  /** `<iotune>` */
  readonly ioTune?: XmlNode | undefined;
}

/** `<disk>` backed by a file. */
export function disk(options: DiskOptions): XmlNode {
  return {
    '@type': 'file',
    '@device': options.device ?? 'disk',
    driver: {
      '@name': 'qemu',
      '@type': options.format,
      '@cache': options.cache ?? 'none',
      '@discard': options.readonly === true ? undefined : 'unmap',
    },
    source: { '@file': options.path },
    target: { '@dev': options.target, '@bus': options.bus },
    boot: options.bootOrder === undefined ? undefined : { '@order': options.bootOrder },
    iotune: options.ioTune,
    readonly: options.readonly === true ? {} : undefined,
    address: options.slot === undefined ? undefined : pciSlot(options.slot),
  };
}

export interface InterfaceOptions {
  readonly model?: string;
  /** Carrier as the guest sees it. */
  readonly link?: 'up' | 'down';
  readonly slot?: number;
  /** Of a virtio NIC whose packets the kernel moves; one without. */
  readonly queues?: number;
  /** `<bandwidth>` */
  readonly bandwidth?: XmlNode | undefined;
}

/**
 * `<interface>` of a Neutron port on a Linux bridge or in Open vSwitch, with the tap name that Neutron's agent looks for.
 */
export function portInterface(vif: Vif, options: InterfaceOptions = {}): XmlNode {
  const mtu = vif.network.meta.mtu;
  return {
    '@type': 'bridge',
    mac: { '@address': vif.address },
    source: { '@bridge': vif.network.bridge ?? undefined },
    virtualport: vif.type === 'ovs' ? openVswitchPort(vif) : undefined,
    target: { '@dev': vif.devname ?? undefined },
    model: { '@type': options.model ?? 'virtio' },
    driver: options.queues === undefined ? undefined : { '@name': 'vhost', '@queues': options.queues },
    mtu: mtu === undefined || mtu === null ? undefined : { '@size': mtu },
    bandwidth: options.bandwidth,
    link: options.link === undefined ? undefined : { '@state': options.link },
    address: options.slot === undefined ? undefined : pciSlot(options.slot),
  };
}

/** What Neutron's agent recognises the port by. */
function openVswitchPort(vif: Vif): XmlNode {
  return {
    '@type': 'openvswitch',
    parameters: { '@interfaceid': vif.ovs_interfaceid ?? vif.id },
  };
}

/** `<serial>` whose output goes to a log file that every start of the guest begins anew; with `listen` a TCP server, too. */
export function serialConsole(
  logPath: string,
  listen?: { readonly address: string; readonly port: number },
): XmlNode {
  const log = { '@file': logPath, '@append': 'off' };
  if (listen === undefined) return { '@type': 'pty', log, target: { '@port': 0 } };
  return { ...tcpSerial(listen, 0), log };
}

/** `<serial>` that listens on TCP. */
export function tcpSerial(
  { address, port }: { readonly address: string; readonly port: number },
  index: number,
): XmlNode {
  return {
    '@type': 'tcp',
    source: { '@mode': 'bind', '@host': address, '@service': port },
    protocol: { '@type': 'raw' },
    target: { '@port': index },
  };
}

/** `<graphics>` on a port libvirt chooses. */
export function graphics(type: 'vnc' | 'spice', listenAddress: string): XmlNode {
  return {
    '@type': type,
    '@port': '-1',
    '@autoport': 'yes',
    listen: { '@type': 'address', '@address': listenAddress },
  };
}

/** `<channel>` of SPICE's agent in the guest. */
export function spiceChannel(): XmlNode {
  return { '@type': 'spicevmc', target: { '@type': 'virtio', '@name': 'com.redhat.spice.0' } };
}

/** `<video>`. @param ramKib null for the hypervisor's default */
export function video(model: string, ramKib: number | null = null): XmlNode {
  return { model: { '@type': model, '@vram': ramKib ?? undefined } };
}

/** `<rng>` fed by the host. */
export function rng({
  slot,
  rate = null,
}: {
  readonly slot?: number;
  /** What it gives at most. */
  readonly rate?: { readonly bytes: number; readonly periodMs: number } | null;
} = {}): XmlNode {
  return {
    '@model': 'virtio',
    rate: rate === null ? undefined : { '@bytes': rate.bytes, '@period': rate.periodMs },
    backend: { '@model': 'random', '#': '/dev/urandom' },
    address: slot === undefined ? undefined : pciSlot(slot),
  };
}

/** `<panic>`: how a guest that panics tells; the domain's `on_crash` says what comes of it. */
export function panicNotifier(): XmlNode {
  return { '@model': 'isa' };
}

/** `<channel>` of the guest agent; libvirt chooses the socket. */
export function agentChannel(): XmlNode {
  return { '@type': 'unix', target: { '@type': 'virtio', '@name': 'org.qemu.guest_agent.0' } };
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(2, '0')}`;
}

/** xmlbuilder2 would write absent parts as empty elements. */
function withoutGaps(node: XmlNode): XmlNode {
  const entries = Object.entries(node).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    entries.map(([key, value]) => [key, isNode(value) ? withoutGaps(value) : withoutGapsIn(value)]),
  );
}

function withoutGapsIn(value: XmlValue): XmlValue {
  return isList(value) ? value.map(withoutGaps) : value;
}

function isNode(value: XmlValue): value is XmlNode {
  return typeof value === 'object' && !isList(value);
}

function isList(value: XmlValue): value is readonly XmlNode[] {
  return Array.isArray(value);
}

/** What cloud-init recognises an OpenStack guest by. */
export function smbios(uuid: string): XmlNode {
  return {
    sysinfo: {
      '@type': 'smbios',
      system: {
        entry: [
          { '@name': 'manufacturer', '#': 'OpenStack Foundation' },
          { '@name': 'product', '#': 'OpenStack Nova' },
          { '@name': 'serial', '#': uuid },
          { '@name': 'uuid', '#': uuid },
          { '@name': 'family', '#': 'Virtual Machine' },
        ],
      },
    },
  };
}
