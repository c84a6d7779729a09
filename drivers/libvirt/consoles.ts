/**
 * What of a domain lets its user look at it and type: screens (VNC, SPICE) and serial ports
 * (nova/virt/libvirt/driver.py: _guest_add_video_device, _create_serial_consoles; nova/console/serial.py).
 */
import { createServer } from 'node:net';
import { ConsoleTypeUnavailable, InstanceNotRunning, SocketPortRangeExhausted } from '../../lib/exceptions';
import type { ConsoleAddress, ConsoleType } from '../driver';
import type { DriverSettings } from './settings';
import { graphics, serialConsole, tcpSerial, type XmlNode } from './xml';
import { viewDomain } from './xml-reader';

/** `<graphics>` elements of every domain of this host. */
export function screens({ vnc, spice }: DriverSettings): XmlNode[] {
  return [
    ...(vnc.enabled ? [graphics('vnc', vnc.serverListen)] : []),
    ...(spice.enabled ? [graphics('spice', spice.serverListen)] : []),
  ];
}

/** Whether anybody can look at a domain's screen. */
export function hasScreen({ vnc, spice }: DriverSettings): boolean {
  return vnc.enabled || spice.enabled;
}

/** `<serial>` elements; the first is logged. @param ports where they listen, none for a host without serial consoles */
export function serialPorts(
  { serialConsole: { proxyclientAddress: address } }: DriverSettings,
  consoleLog: string,
  ports: readonly number[],
): XmlNode[] {
  const [first, ...others] = ports;
  if (first === undefined) return [serialConsole(consoleLog)];
  return [
    serialConsole(consoleLog, { address, port: first }),
    ...others.map((port, index) => tcpSerial({ address, port }, index + 1)),
  ];
}

/** Where the proxy reaches a console. @throws ConsoleTypeUnavailable, InstanceNotRunning */
export function consoleAddress(
  type: ConsoleType,
  uuid: string,
  domainXml: string,
  { vnc, spice, serialConsole: serial }: DriverSettings,
): ConsoleAddress {
  const view = viewDomain(domainXml);
  const { enabled, host, port } = {
    novnc: { enabled: vnc.enabled, host: vnc.serverProxyclientAddress, port: view.vncPort },
    'spice-html5': { enabled: spice.enabled, host: spice.serverProxyclientAddress, port: view.spicePort },
    serial: { enabled: serial.enabled, host: serial.proxyclientAddress, port: view.serialPort },
  }[type];
  if (!enabled) throw new ConsoleTypeUnavailable(`Unavailable console type ${type}.`);
  if (port !== null) return { host, port };
  // A server keeps the consoles it was started with until it is started anew.
  if (type === 'serial') throw new ConsoleTypeUnavailable(`Unavailable console type ${type}.`);
  throw new InstanceNotRunning(`Instance ${uuid} has no ${type} console now: it is not running`);
}

/** TCP ports for serial consoles, each given out only once while others are left. */
export class SerialPorts {
  private next = 0;

  constructor(private readonly settings: DriverSettings['serialConsole']) {}

  /** As many free ports; none when the host has no serial consoles. @throws SocketPortRangeExhausted */
  async take(count: number): Promise<number[]> {
    const { enabled, proxyclientAddress: address } = this.settings;
    if (!enabled) return [];
    const taken: number[] = [];
    const [first, end] = this.range();
    for (let tried = 0; taken.length < count; tried += 1) {
      if (tried >= end - first) {
        throw new SocketPortRangeExhausted(
          `Not able to acquire a free port for ${address}: all of ${first} to ${end - 1} are in use`,
        );
      }
      const port = first + (this.next++ % (end - first));
      if (await isFree(address, port)) taken.push(port);
    }
    return taken;
  }

  private range(): [number, number] {
    const [first = 0, end = 0] = this.settings.portRange.split(':').map(Number);
    // As Nova: a range that is none is replaced by the default one.
    return first < end ? [first, end] : [10_000, 20_000];
  }
}

async function isFree(host: string, port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
