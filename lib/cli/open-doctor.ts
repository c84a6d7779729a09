/** Puts the checks of `prebake doctor` together for this host, as its nova.conf says. Nothing is opened before a check runs. */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  LibvirtConnection,
  probeAccelerator,
  readConfinement,
  readHostCapabilities,
} from '../../drivers/libvirt';
import { type Config, ConfigError, type LoginSection, loadConfig, loginFrom } from '../config';
import {
  amqpCheck,
  type BrokerTls,
  cacheCheck,
  type Check,
  clockCheck,
  conductorCheck,
  discoveryCheck,
  diskCheck,
  fail,
  glanceCheck,
  hookCheck,
  type Hypervisor,
  keystoneCheck,
  kvmCheck,
  libvirtCheck,
  memoryCheck,
  neutronAgentCheck,
  ok,
  type OpenLogin,
  placementCheck,
  programsCheck,
  zstdCheck,
  qemuCheck,
  qemuUserCheck,
  rootCheck,
  serviceCheck,
  soleServiceCheck,
  thisMachine,
} from '../doctor';
import type { Logger } from '../log';
import { Messaging, RequestContext } from '../messaging';
import { Conductor } from '../objects';
import { KeystoneSession } from '../openstack';
import { sidecarUrl } from '../sidecar';
import { zstdVersion } from '../squirrel';
import { packageRoot } from '../version';
import type { Examination } from './doctor-command';
import { openHost } from './open-host';

const PING_TIMEOUT_MS = 5000;
const DEFAULT_URI = 'qemu:///system';

/** The checks of this host; with a configuration that is wrong, those that need none. */
export async function openDoctor(configFiles: readonly string[], logger: Logger): Promise<Examination> {
  const configuration = await readConfiguration(configFiles);
  const machineChecks = [
    rootCheck(thisMachine),
    configuration.check,
    programsCheck(thisMachine),
    zstdCheck(zstdVersion),
    hookCheck(thisMachine, join(packageRoot(), 'drivers', 'libvirt', 'hook', 'prebake')),
  ];
  const { config } = configuration;
  if (config === null) return { host: null, checks: machineChecks, close: () => Promise.resolve() };
  const hypervisor = new LibvirtHypervisor(config, logger);
  const cloud = new Logins(config, logger);
  return {
    host: config.default.host,
    checks: [
      ...machineChecks,
      memoryCheck(thisMachine, expectations(config)),
      diskCheck(thisMachine, expectations(config)),
      libvirtCheck(hypervisor),
      qemuCheck(hypervisor),
      qemuUserCheck(hypervisor, thisMachine, config.prebake.cacheDirectory),
      kvmCheck(hypervisor, config.libvirt.virtType),
      amqpCheck(config.default.transportUrl, () => readTls(config)),
      conductorCheck((signal) => pingConductor(config, logger, signal)),
      soleServiceCheck(config.default.transportUrl, config.default.host, () => readTls(config)),
      ...cloudChecks(config.default.host, cloud),
      cacheCheck(thisMachine, config.prebake.cacheDirectory, async () => {
        const host = await openHost(configFiles, logger);
        const cache = await host.openCache();
        return {
          list: () => cache.list(),
          failures: () => host.bakeFailures(),
          close: () => cache.close(),
        };
      }),
      serviceCheck((path, signal) => askSidecar(config, path, signal)),
    ],
    close: async () => {
      cloud.close();
      await hypervisor.close();
    },
  };
}

async function readConfiguration(
  files: readonly string[],
): Promise<{ readonly config: Config | null; readonly check: Check }> {
  const fix = 'correct the options that are named; docs/configuration.md describes them';
  const check = (run: Check['run']): Check => ({ name: 'configuration', fix, run });
  if (files.length === 0) {
    const missing = fail('there is no /etc/nova/nova.conf', 'name the configuration with --config-file');
    return { config: null, check: check(() => Promise.resolve(missing)) };
  }
  try {
    const config = await loadConfig(files);
    return { config, check: check(() => Promise.resolve(ok(files.join(', ')))) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { config: null, check: check(() => Promise.reject(error)) };
  }
}

function askSidecar({ prebake }: Config, path: string, signal: AbortSignal): Promise<Response> {
  const { sidecarListen, sidecarToken } = prebake;
  const headers: Record<string, string> =
    sidecarToken === null ? {} : { Authorization: `Bearer ${sidecarToken}` };
  return fetch(`${sidecarUrl(sidecarListen)}${path}`, { headers, signal });
}

function expectations({ default: nova, prebake }: Config): Parameters<typeof memoryCheck>[1] {
  return {
    instancesPath: nova.instancesPath,
    cacheDirectory: prebake.cacheDirectory,
    reservedHostMemoryMb: nova.reservedHostMemoryMb,
    baseMemoryMb: prebake.baseMemoryMb,
  };
}

function cloudChecks(host: string, logins: Logins): Check[] {
  const neutron = logins.of('neutron');
  const placement = logins.of('placement');
  const glance = logins.of('glance', 'serviceUser', 'keystoneAuthtoken');
  const nova = logins.of('serviceUser', 'keystoneAuthtoken');
  return [
    keystoneCheck('keystone-placement', placement),
    keystoneCheck('keystone-neutron', neutron),
    keystoneCheck('keystone-glance', glance, {
      roles: ['admin'],
      otherwise: 'private images of projects cannot be fetched',
    }),
    clockCheck(logins.of('placement'), 'keystone-placement'),
    placementCheck(placement, 'keystone-placement'),
    neutronAgentCheck(neutron, host, 'keystone-neutron'),
    glanceCheck(glance, 'keystone-glance'),
    discoveryCheck(nova, host, 'keystone-glance'),
  ];
}

/** The logins of nova.conf, each opened when it is first asked for. */
class Logins {
  private readonly sessions: KeystoneSession[] = [];

  constructor(
    private readonly config: Config,
    private readonly logger: Logger,
  ) {}

  of(...sections: readonly [LoginSection, ...LoginSection[]]): OpenLogin {
    let opened: ReturnType<OpenLogin> | undefined;
    return () => (opened ??= this.open(sections));
  }

  close(): void {
    for (const session of this.sessions) session.close();
  }

  private open(sections: readonly [LoginSection, ...LoginSection[]]): ReturnType<OpenLogin> {
    const login = loginFrom(this.config, ...sections);
    const session = new KeystoneSession(login, this.logger);
    this.sessions.push(session);
    const apiServer = sections[0] === 'glance' ? this.config.glance.apiServers?.[0] : undefined;
    const endpoint = apiServer === undefined ? login : { endpointOverride: apiServer, ...login };
    return { section: nameOf(this.config, sections), session, authUrl: login.authUrl, endpoint };
  }
}

/** The section whose credentials are used, as nova.conf writes it. */
function nameOf(config: Config, sections: readonly LoginSection[]): string {
  const used = sections.find((name) => config[name].authUrl !== null && config[name].password !== null);
  return `[${(used ?? sections[0] ?? '').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}]`;
}

async function readTls({ osloMessagingRabbit: rabbit }: Config): Promise<BrokerTls | undefined> {
  if (!rabbit.ssl) return undefined;
  const pem = async (name: 'ca' | 'cert' | 'key', path: string | null): Promise<BrokerTls> =>
    path === null ? {} : { [name]: await readFile(path) };
  return {
    ...(await pem('ca', rabbit.sslCaFile)),
    ...(await pem('cert', rabbit.sslCertFile)),
    ...(await pem('key', rabbit.sslKeyFile)),
  };
}

async function pingConductor(config: Config, logger: Logger, signal: AbortSignal): Promise<void> {
  const rabbit = config.osloMessagingRabbit;
  const messaging = await Messaging.connect({
    transportUrl: config.default.transportUrl,
    connectionName: `prebake doctor:${process.pid}`,
    heartbeatS: rabbit.heartbeatTimeoutThreshold,
    durableQueues: rabbit.amqpDurableQueues,
    ...(rabbit.ssl
      ? { tls: { caFile: rabbit.sslCaFile, certFile: rabbit.sslCertFile, keyFile: rabbit.sslKeyFile } }
      : {}),
    logger,
    signal,
  });
  try {
    await new Conductor(messaging, { timeoutMs: PING_TIMEOUT_MS }).ping(RequestContext.admin());
  } finally {
    await messaging.close();
  }
}

/** libvirt by the driver's own connection. */
class LibvirtHypervisor implements Hypervisor {
  private connection: Promise<LibvirtConnection> | undefined;

  constructor(
    private readonly config: Config,
    private readonly logger: Logger,
  ) {}

  async versions(): Promise<{ readonly libvirt: number; readonly qemu: number }> {
    const connection = await this.connect();
    const [libvirt, qemu] = await Promise.all([connection.libvirtVersion(), connection.hypervisorVersion()]);
    return { libvirt, qemu };
  }

  async probeKvm(): Promise<void> {
    const { emulatorPath } = await readHostCapabilities(await this.connect(), 'kvm');
    await probeAccelerator(emulatorPath);
  }

  async kvmDevice(): Promise<'opens' | 'missing' | 'refused'> {
    try {
      await (await open('/dev/kvm', 'r+')).close();
      return 'opens';
    } catch (error) {
      return error instanceof Error && 'code' in error && error.code === 'ENOENT' ? 'missing' : 'refused';
    }
  }

  async confinement(): Promise<{ readonly uid: number; readonly models: readonly string[] }> {
    const { user, models } = readConfinement(await (await this.connect()).capabilities());
    return { uid: user.uid, models };
  }

  async close(): Promise<void> {
    const connection = await this.connection?.catch(() => undefined);
    await connection?.close();
  }

  private connect(): Promise<LibvirtConnection> {
    const uri = this.config.libvirt.connectionUri || DEFAULT_URI;
    return (this.connection ??= LibvirtConnection.open({ uri, logger: this.logger }));
  }
}
