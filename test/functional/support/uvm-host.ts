/** A compute host of a test's own: private libvirtd, cache, driver and baker, with one image from a file. */
import { randomUUID } from 'node:crypto';
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import type {
  FlavorSpec,
  GuestReady,
  InstanceSpec,
  SpawnOutcome,
  SpawnRequest,
} from '../../../drivers/driver';
import { LibvirtDriver } from '../../../drivers/libvirt';
import { LibvirtUvmEngine } from '../../../drivers/libvirt/uvm';
import { Baker, Templates } from '../../../lib/bake';
import type { NetworkInfo } from '../../../lib/objects';
import { Squirrel } from '../../../lib/squirrel';
import { Timeline } from '../../../lib/timeline';
import { PrivateLibvirtd } from './private-libvirtd';
import { until } from './until';
import { UNLIMITED } from '../../support/squirrel';
import { OTHER_CONSOLES } from '../../support/settings';

const run = promisify(execFile);
const HOOK = join(__dirname, '../../../drivers/libvirt/hook/prebake');
const IMAGES = join(process.env['PREBAKE_CLOUD'] ?? '/srv/prebake-cloud', 'images');
const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });

export interface UvmHostOptions {
  /** File name in the images of the test cloud. */
  readonly imageFile: string;
  readonly baseMemoryMb: number;
  readonly bakeTimeoutS: number;
  readonly gateTimeoutMs: number;
}

/** Where things are, for a process that works on the same host. */
export interface UvmHostPlace {
  readonly directory: string;
  readonly uri: string;
  readonly options: UvmHostOptions;
}

/** A driver on a host that exists already; `initHost` is the caller's. */
export function driverOf({ directory, uri, options }: UvmHostPlace): LibvirtDriver {
  return LibvirtDriver.create({
    config: {
      default: { instancesPath: join(directory, 'instances'), forceRawImages: true },
      libvirt: { virtType: 'qemu', connectionUri: uri, cpuMode: null, cpuModels: [] },
      vnc: { enabled: true, serverListen: '127.0.0.1', serverProxyclientAddress: '127.0.0.1' },
      ...OTHER_CONSOLES,
    },
    glance: { download: (_id, toPath) => copyFile(join(IMAGES, options.imageFile), toPath) },
    logger,
    uvm: (parts) =>
      new LibvirtUvmEngine(parts, {
        maxVcpus: 4,
        maxMemoryMb: 4096,
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
    const libvirtd = await PrivateLibvirtd.start({ hook: HOOK });
    const directory = await mkdtemp(join(tmpdir(), 'prebake-uvm-'));
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
    const templates = Templates.create({ squirrel, baker, config, logger });
    return new UvmHost(libvirtd, place, squirrel, driver, baker, templates);
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
  async request(instance: InstanceSpec, changes: Partial<SpawnRequest> = {}): Promise<SpawnRequest> {
    const hostname = hostnameOf(instance);
    const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
    const files = [
      ['meta_data.json', json({ uuid: instance.uuid, hostname, name: hostname })],
      ['network_data.json', json(networkDataOf(instance))],
      ['user_data', Buffer.from(USER_DATA)],
    ] as const;
    return {
      instance,
      template: await this.templates.find(this.image, instance.flavor),
      network: Promise.resolve(networkOf(instance, this.bridge)),
      identity: Promise.resolve({
        uuid: instance.uuid,
        hostname,
        publicKeys: [],
        adminPassword: null,
        userData: Buffer.from(USER_DATA),
        files: files.map(([name, content]) => ({ path: `openstack/latest/${name}`, content })),
        configDrive: true,
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
  echo "WHO macs=$(cat /sys/class/net/e*/address)"
  echo "WHO end=of report"
} >/dev/console
`;

export function hostnameOf(instance: InstanceSpec): string {
  return `host-${instance.uuid.slice(0, 8)}`;
}

export function macOf({ uuid }: InstanceSpec): string {
  return `fa:16:3e:${uuid.slice(0, 2)}:${uuid.slice(2, 4)}:${uuid.slice(4, 6)}`;
}

export function tapOf({ uuid }: InstanceSpec): string {
  return `tap${uuid.slice(0, 11)}`;
}

function addressOf({ uuid }: InstanceSpec): string {
  return `10.77.0.${2 + (Number.parseInt(uuid.slice(0, 2), 16) % 250)}`;
}

export function networkOf(instance: InstanceSpec, bridge: string): NetworkInfo {
  const subnet = {
    cidr: '10.77.0.0/24',
    version: 4,
    dns: [],
    gateway: { address: '10.77.0.1' },
    ips: [{ address: addressOf(instance) }],
    routes: [],
  };
  return [
    {
      id: instance.uuid,
      address: macOf(instance),
      type: 'bridge',
      devname: tapOf(instance),
      active: false,
      preserve_on_delete: false,
      network: { id: instance.uuid, bridge, meta: { mtu: 1450 }, subnets: [subnet] },
    },
  ];
}

function networkDataOf(instance: InstanceSpec): unknown {
  const address = { ip_address: addressOf(instance), netmask: '255.255.255.0' };
  return {
    links: [{ id: 'nic', vif_id: 'nic', type: 'bridge', mtu: 1450, ethernet_mac_address: macOf(instance) }],
    networks: [
      { id: 'net', network_id: 'net', link: 'nic', type: 'ipv4', ...address, routes: [], services: [] },
    ],
    services: [],
  };
}

/** The report of a guest that was restored; fails with the reason for one that booted cold. */
export async function reportOf(outcome: SpawnOutcome): Promise<GuestReady> {
  if (outcome.how !== 'uvm') throw new Error(`booted cold: ${outcome.why}`);
  return await outcome.ready;
}
