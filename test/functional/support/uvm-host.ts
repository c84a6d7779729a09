/** A compute host of a test's own: private libvirtd, cache, driver and baker, with one image from a file. */
import { randomUUID } from 'node:crypto';
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import type {
  FlavorSpec,
  GuestReady,
  InstanceSpec,
  SpawnOutcome,
  SpawnRequest,
} from '../../../drivers/driver';
import { type DriverSettings, LibvirtDriver } from '../../../drivers/libvirt';
import { LibvirtUvmEngine } from '../../../drivers/libvirt/uvm';
import { Baker, Templates } from '../../../lib/bake';
import { blockDeviceMapping, networkData } from '../../../lib/compute/metadata';
import type { NetworkInfo } from '../../../lib/objects';
import { Squirrel } from '../../../lib/squirrel';
import { Timeline } from '../../../lib/timeline';
import { PrivateLibvirtd } from './private-libvirtd';
import { until } from './until';
import { UNLIMITED } from '../../support/squirrel';
import { EMULATION, OTHER_CONSOLES } from '../../support/settings';

const run = promisify(execFile);
const HOOK = join(__dirname, '../../../drivers/libvirt/hook/prebake');
const IMAGES = join(process.env['PREBAKE_CLOUD'] ?? '/srv/prebake-cloud', 'images');
const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });

export interface UvmHostOptions {
  /** File name in the images of the test cloud, or a path. */
  readonly imageFile: string;
  readonly baseMemoryMb: number;
  readonly bakeTimeoutS: number;
  readonly gateTimeoutMs: number;
  /** What a clone can be grown to; 4 and 4096 by default. */
  readonly maxVcpus?: number;
  readonly maxMemoryMb?: number;
  /** Default true. */
  readonly qemuAsRoot?: boolean;
  /** Folder of the system whose libvirt and QEMU run, instead of the machine's. */
  readonly root?: string | undefined;
}

/** What a server has beyond what every one has. */
export interface ServerExtras {
  /** Added to `USER_DATA`, a shell script. */
  readonly userData?: string;
  readonly publicKeys?: readonly string[];
  /** Default true. */
  readonly configDrive?: boolean;
  /** A second NIC, with an IPv6 address. */
  readonly secondNic?: boolean;
  /** What the first NIC's subnet tells besides addresses and gateway. */
  readonly subnet?: {
    readonly dns: readonly string[];
    readonly route: { readonly to: string; readonly via: string };
  };
}

/** Where things are, for a process that works on the same host. */
export interface UvmHostPlace {
  readonly directory: string;
  readonly uri: string;
  readonly options: UvmHostOptions;
}

/** What nova.conf would say there. */
export function settingsOf({ directory, uri }: UvmHostPlace): DriverSettings {
  return {
    default: { instancesPath: join(directory, 'instances'), forceRawImages: true },
    libvirt: { ...EMULATION, connectionUri: uri },
    vnc: { enabled: true, serverListen: '127.0.0.1', serverProxyclientAddress: '127.0.0.1' },
    ...OTHER_CONSOLES,
  };
}

/** A driver on a host that exists already; `initHost` is the caller's. */
export function driverOf(place: UvmHostPlace): LibvirtDriver {
  const { options } = place;
  return LibvirtDriver.create({
    config: settingsOf(place),
    glance: { download: (_id, toPath) => copyFile(resolve(IMAGES, options.imageFile), toPath) },
    logger,
    uvm: (parts) =>
      new LibvirtUvmEngine(parts, {
        maxVcpus: options.maxVcpus ?? 4,
        maxMemoryMb: options.maxMemoryMb ?? 4096,
        gateTimeoutMs: options.gateTimeoutMs,
      }),
  });
}

/** The host; `stop` takes down everything. */
export class UvmHost {
  readonly bridge = `brqu${process.pid}`;
  readonly image = {
    id: 'the-image',
    diskFormat: 'qcow2',
    containerFormat: 'bare',
    sizeBytes: 0,
    minDiskGb: 0,
    minRamMb: 0,
    checksum: null,
    properties: {},
  };
  private servers = 0;

  private constructor(
    readonly libvirtd: PrivateLibvirtd,
    readonly place: UvmHostPlace,
    readonly squirrel: Squirrel,
    readonly driver: LibvirtDriver,
    readonly baker: Baker,
    readonly templates: Templates,
  ) {}

  static async start(options: UvmHostOptions): Promise<UvmHost> {
    const libvirtd = await PrivateLibvirtd.start({
      hook: HOOK,
      qemuAsRoot: options.qemuAsRoot ?? true,
      root: options.root,
    });
    const directory = await mkdtemp(join(tmpdir(), 'prebake-uvm-'));
    await chmod(directory, 0o755);
    const place = { directory, uri: libvirtd.uri, options };
    const squirrel = await Squirrel.open({
      directory: join(directory, 'cache'),
      imagesDirectory: join(directory, 'instances/_base'),
      limits: UNLIMITED,
      logger,
    });
    const driver = driverOf(place);
    await driver.initHost();
    const { baseMemoryMb, bakeTimeoutS } = options;
    const config = { prebake: { bake: 'auto' as const, baseMemoryMb, bakeTimeoutS, uvmMaxAgeDays: 0 } };
    const baker = Baker.create({ squirrel, driver, config, logger });
    const templates = Templates.create({ squirrel, baker, driver, config, logger });
    return new UvmHost(libvirtd, place, squirrel, driver, baker, templates);
  }

  async destroyServers(): Promise<void> {
    for (const uuid of await this.driver.listInstanceUuids()) await this.driver.destroy({ uuid, name: '' });
  }

  async stop(): Promise<void> {
    await this.baker.close();
    await this.driver.close();
    await this.squirrel.close();
    await this.libvirtd.stop();
    await rm(this.place.directory, { recursive: true, force: true });
    await run('ip', ['link', 'delete', this.bridge]).catch(() => undefined);
  }

  get instancesPath(): string {
    return join(this.place.directory, 'instances');
  }

  /** A new server of the image. */
  server(flavor: FlavorSpec): InstanceSpec {
    this.servers += 1;
    return {
      uuid: randomUUID(),
      name: `instance-${this.servers.toString(16).padStart(8, '0')}`,
      displayName: `server ${this.servers}`,
      projectId: 'project',
      userId: 'user',
      flavor,
      image: this.image,
    };
  }

  /** What the compute service would ask for. The user data reports on the console who the guest is. */
  async request(
    instance: InstanceSpec,
    changes: Partial<SpawnRequest> = {},
    extras: ServerExtras = {},
  ): Promise<SpawnRequest> {
    const { publicKeys = [], configDrive = true, secondNic = false } = extras;
    const hostname = hostnameOf(instance);
    const network = networkOf(instance, this.bridge, secondNic, extras.subnet);
    const userData = Buffer.from(USER_DATA.replace('# @EXTRA@', () => extras.userData ?? ''));
    const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
    const public_keys = Object.fromEntries(publicKeys.map((key, index) => [`key${index}`, key]));
    const files = [
      [
        'openstack/latest/meta_data.json',
        json({ uuid: instance.uuid, hostname, name: hostname, public_keys }),
      ],
      ['openstack/latest/network_data.json', json(networkData(network))],
      ['openstack/latest/user_data', userData],
      [
        'ec2/latest/meta-data.json',
        json({ 'block-device-mapping': blockDeviceMapping(instance.flavor, 'vd') }),
      ],
    ] as const;
    return {
      instance,
      template: await this.templates.find(this.image, instance.flavor),
      network: Promise.resolve(network),
      identity: Promise.resolve({
        uuid: instance.uuid,
        hostname,
        publicKeys,
        adminPassword: null,
        userData,
        files: files.map(([path, content]) => ({ path, content })),
        configDrive,
      }),
      vifsPlugged: () => Promise.resolve(),
      timeline: new Timeline(),
      signal: new AbortController().signal,
      ...changes,
    };
  }

  /** What the guest said about itself through its user data. */
  async whoIs(instance: InstanceSpec, timeoutMs: number): Promise<Map<string, string>> {
    let text = '';
    await until(
      'user data',
      async () => {
        text = await this.driver.getConsoleOutput(instance.uuid, null);
        return text.includes('WHO end=');
      },
      timeoutMs,
    );
    return new Map(
      [...text.matchAll(/WHO (\w+)=([^\r\n]*)/g)].map((match) => [match[1] ?? '', match[2] ?? '']),
    );
  }

  /** Puts this machine into the guests' network, as their gateway. */
  async giveBridgeAddress(): Promise<void> {
    await run('ip', ['address', 'replace', `${GATEWAY}/24`, 'dev', this.bridge]);
  }

  /** Output of virsh on this host. */
  async virsh(...args: string[]): Promise<string> {
    return (await run('virsh', ['-c', this.libvirtd.uri, ...args])).stdout;
  }
}

const USER_DATA = `#!/bin/sh
{
  echo "WHO hostname=$(hostname)"
  echo "WHO random=$(head -c 16 /dev/urandom | md5sum | cut -c 1-32)"
  echo "WHO machine=$(cat /etc/machine-id 2>/dev/null)"
  echo "WHO hostkeys=$(cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null | cut -d ' ' -f 2 | sort | tr '\\n' ' ')"
  echo "WHO cpus=$(grep -c ^processor /proc/cpuinfo)"
  echo "WHO memory=$(awk '/MemTotal/{print int($2/1024)}' /proc/meminfo)"
  echo "WHO disk=$(cat /sys/block/vda/size)"
  echo "WHO root=$(df -k / | awk 'END{print int($2/1024)}')"
  echo "WHO macs=$(cat /sys/class/net/e*/address | tr '\\n' ' ' | sed 's/ $//')"
# @EXTRA@
  echo "WHO end=of report"
} >/dev/console
`;

export function hostnameOf(instance: InstanceSpec): string {
  return `host-${instance.uuid.slice(0, 8)}`;
}

export function macOf({ uuid }: InstanceSpec, number = 0): string {
  return `fa:16:3${'ef'.charAt(number)}:${uuid.slice(0, 2)}:${uuid.slice(2, 4)}:${uuid.slice(4, 6)}`;
}

export function tapOf({ uuid }: InstanceSpec, number = 0): string {
  return `tap${uuid.slice(0, 10)}${number === 0 ? uuid.slice(10, 11) : 'z'}`;
}

/** Address of the bridge that all guests of a host are on, and their gateway. */
export const GATEWAY = '10.77.0.1';
const GATEWAY_6 = 'fd77::1';

/** The address of a server's first NIC, and of its second. */
export function addressOf({ uuid }: InstanceSpec, number = 0): string {
  const last = 2 + (Number.parseInt(uuid.slice(0, 2), 16) % 250);
  return number === 0 ? `10.77.0.${last}` : `fd77::${last.toString(16)}`;
}

export function networkOf(
  instance: InstanceSpec,
  bridge: string,
  secondNic = false,
  told?: ServerExtras['subnet'],
): NetworkInfo {
  const nic = (number: number): NetworkInfo[number] => {
    const six = number === 1;
    const subnet = {
      cidr: six ? 'fd77::/64' : '10.77.0.0/24',
      version: six ? 6 : 4,
      dns: six ? [] : (told?.dns ?? []).map((address) => ({ address })),
      gateway: { address: six ? GATEWAY_6 : GATEWAY },
      ips: [{ address: addressOf(instance, number) }],
      routes:
        six || told === undefined ? [] : [{ cidr: told.route.to, gateway: { address: told.route.via } }],
    };
    return {
      id: `${number}${instance.uuid.slice(1)}`,
      address: macOf(instance, number),
      type: 'bridge',
      devname: tapOf(instance, number),
      active: false,
      preserve_on_delete: false,
      network: { id: `${number}`, bridge, meta: { mtu: 1450 }, subnets: [subnet] },
    };
  };
  return secondNic ? [nic(0), nic(1)] : [nic(0)];
}

/** The report of a guest that was restored; fails with the reason for one that booted cold. */
export async function reportOf(outcome: SpawnOutcome): Promise<GuestReady> {
  if (outcome.how !== 'uvm') throw new Error(`booted cold: ${outcome.why}`);
  return await outcome.ready;
}
