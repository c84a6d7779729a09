/**
 * Puts the parts of the compute service together. Reading it shows who works with whom.
 */
import { availableParallelism, freemem } from 'node:os';
import type { ComputeDriver } from '../../drivers/driver';
import type { Templates } from '../bake';
import type { Config } from '../config';
import type { Logger } from '../log';
import type { Messaging } from '../messaging';
import { Conductor } from '../objects';
import type { Barbican, Glance, Neutron, Placement } from '../openstack';
import type { BootRecorder } from '../sidecar';
import type { Squirrel } from '../squirrel';
import { AdminPassword } from './admin-password';
import { Admission } from './admission';
import { Builder } from './build';
import type { BuilderParts } from './build-attempt';
import { ConductorTasks } from './conductor-tasks';
import { Consoles } from './consoles';
import { DeviceTags } from './device-tags';
import { GuestReports } from './diagnostics';
import { FixedIps } from './fixed-ips';
import { ExternalEvents } from './external-events';
import { HostRecords } from './host-records';
import { Housekeeping } from './housekeeping';
import { InstanceActions } from './instance-actions';
import { InstanceLocks } from './instance-locks';
import { InstanceRecords } from './instance-records';
import { Interfaces } from './interfaces';
import { InterruptedOperations } from './interrupted';
import { computeEndpoints } from './manager';
import { ServerNetworks } from './network';
import { NetworkCache } from './network-cache';
import { NeutronNews } from './neutron-news';
import { InstanceNews } from './notifications';
import { Power } from './power';
import { PowerSync } from './power-sync';
import { Recovery } from './recovery';
import { ResourceTracker } from './resource-tracker';
import { SchedulerNews } from './scheduler-news';
import { RpcTopics } from './rpc-topics';
import { ComputeService } from './service';
import { Quiesce } from './quiesce';
import { Rebuilder } from './rebuild';
import { Rescue } from './rescue';
import { Resize } from './resize';
import { ResizeEnd } from './resize-end';
import { Shelve } from './shelve';
import { Snapshots } from './snapshot';
import { SoftDelete } from './soft-delete';
import { Suspend } from './suspend';
import { TaskLogs } from './task-logs';
import { Terminator } from './terminate';
import { Unshelve } from './unshelve';
import { refusals } from './unsupported';
import { UsageAudit } from './usage-audit';
import { Vtpm } from './vtpm';

/** That become servers at once: most of that time they wait for Neutron. */
const GUESTS_PER_PROCESSOR = 8;

/** What the compute service needs from outside. */
export interface ComputeServiceSurroundings {
  readonly config: Config;
  readonly messaging: Messaging;
  /** Where notifications go: mostly the same broker. */
  readonly notifications: Pick<Messaging, 'notifier'>;
  readonly driver: ComputeDriver;
  readonly glance: Glance;
  readonly neutron: Neutron;
  readonly placement: Placement;
  /** Looked for when it is first needed. */
  readonly keyManager: () => Barbican;
  readonly templates: Templates;
  readonly squirrel: Squirrel;
  readonly boots: BootRecorder;
  readonly logger: Logger;
}

/** The compute service of this host, not started yet. */
export function createComputeService(surroundings: ComputeServiceSurroundings): ComputeService {
  const {
    config,
    messaging,
    notifications,
    driver,
    glance,
    neutron,
    placement,
    keyManager,
    templates,
    squirrel,
    boots,
    logger,
  } = surroundings;
  const { host, instanceNameTemplate } = config.default;

  const conductor = new Conductor(messaging, { timeoutMs: config.default.rpcResponseTimeout * 1000 });
  const hosts = new HostRecords(conductor, host);
  const records = new InstanceRecords(conductor, host);
  const locks = new InstanceLocks();
  const news = InstanceNews.create(config, notifications, logger);
  const actions = new InstanceActions({ records, locks, news, logger });
  const scheduler = new SchedulerNews(messaging, host, logger);
  const networks = new ServerNetworks({ neutron, host, logger });
  const networkCache = new NetworkCache(networks, records, logger);
  const events = new ExternalEvents();
  const tracker = new ResourceTracker({ driver, hosts, instances: records, placement, config });

  const vtpm = new Vtpm({ keyManager, records, logger, enabled: config.libvirt.swtpmEnabled });

  const conductorTasks = new ConductorTasks(messaging);

  const vifPlugging = {
    timeoutMs: config.default.vifPluggingTimeout * 1000,
    fatal: config.default.vifPluggingIsFatal,
  };

  const { maxConcurrentBuilds } = config.default;
  const admission = new Admission({
    builds: maxConcurrentBuilds === 0 ? Number.POSITIVE_INFINITY : maxConcurrentBuilds,
    guests: GUESTS_PER_PROCESSOR * availableParallelism(),
    guestBytes: config.prebake.baseMemoryMb * 2 ** 20,
    availableBytes: freemem,
  });
  const parts: BuilderParts = {
    driver,
    templates,
    squirrel,
    records,
    tracker,
    networks,
    placement,
    conductor: conductorTasks,
    scheduler,
    vtpm,
    events,
    news,
    locks,
    boots,
    logger,
    options: {
      host,
      instanceNameTemplate,
      forceConfigDrive: config.default.forceConfigDrive,
      vifPlugging,
    },
  };
  const builder = new Builder(parts, admission);
  const terminator = new Terminator({
    driver,
    actions,
    locks,
    records,
    networks,
    tracker,
    placement,
    scheduler,
    vtpm,
    instanceNameTemplate,
  });
  const power = new Power({
    driver,
    actions,
    records,
    networkCache,
    glance,
    vtpm,
    options: {
      instanceNameTemplate,
      shutdownTimeoutMs: config.default.shutdownTimeout * 1000,
      softRebootTimeoutMs: config.libvirt.waitSoftRebootSeconds * 1000,
    },
  });
  const consoles = new Consoles(driver, records, {
    baseUrls: {
      novnc: config.vnc.enabled ? config.vnc.novncproxyBaseUrl : null,
      'spice-html5': config.spice.enabled ? config.spice.html5proxyBaseUrl : null,
      serial: config.serialConsole.enabled ? config.serialConsole.baseUrl : null,
    },
    tokenTtlS: config.consoleauth.tokenTtl,
  });
  const deviceTags = new DeviceTags(driver, records);
  const rebuilder = new Rebuilder({
    driver,
    actions,
    records,
    networkCache,
    deviceTags,
    templates,
    squirrel,
    glance,
    boots,
    power,
    scheduler,
    vtpm,
    options: {
      instanceNameTemplate,
      forceConfigDrive: config.default.forceConfigDrive,
    },
  });
  const rescue = new Rescue({
    driver,
    actions,
    records,
    networkCache,
    glance,
    power,
    options: { instanceNameTemplate, forceConfigDrive: config.default.forceConfigDrive },
  });
  const resizeEnd = new ResizeEnd({
    driver,
    actions,
    records,
    networkCache,
    power,
    tracker,
    placement,
    scheduler,
    vtpm,
    logger,
    instanceNameTemplate,
  });
  const resize = new Resize({
    driver,
    actions,
    records,
    networkCache,
    power,
    tracker,
    placement,
    conductor: conductorTasks,
    scheduler,
    vtpm,
    end: resizeEnd,
    logger,
    options: { host, hostAddress: config.default.myIp, instanceNameTemplate },
  });
  const snapshots = new Snapshots({ driver, actions, records, glance, instanceNameTemplate });
  const shelve = new Shelve({
    driver,
    actions,
    locks,
    records,
    power,
    snapshots,
    tracker,
    placement,
    scheduler,
    logger,
    options: { host, instanceNameTemplate, offloadAfterS: config.default.shelvedOffloadTime },
  });
  const unshelve = new Unshelve({
    driver,
    actions,
    records,
    networks,
    deviceTags,
    events,
    placement,
    power,
    tracker,
    scheduler,
    boots,
    options: { host, instanceNameTemplate, forceConfigDrive: config.default.forceConfigDrive, vifPlugging },
  });
  const suspend = new Suspend({ driver, actions, records, networkCache, power, vtpm, instanceNameTemplate });
  const softDelete = new SoftDelete({
    driver,
    actions,
    locks,
    records,
    networkCache,
    power,
    terminator,
    vtpm,
    logger,
    options: { instanceNameTemplate, reclaimAfterMs: config.default.reclaimInstanceInterval * 1000 },
  });
  const interfaces = new Interfaces({
    driver,
    actions,
    locks,
    records,
    networks,
    networkCache,
    deviceTags,
    logger,
    instanceNameTemplate,
  });
  const recovery = new Recovery({
    driver,
    records,
    networks,
    power,
    suspend,
    softDelete,
    terminator,
    vtpm,
    interrupted: new InterruptedOperations({
      driver,
      records,
      rescue,
      resizeEnd,
      shelve,
      unshelve,
      snapshots,
    }),
    logger,
    options: { instanceNameTemplate, resumeGuests: config.default.resumeGuestsStateOnHostBoot },
  });
  const endpoints = computeEndpoints({
    driver,
    builder,
    terminator,
    power,
    consoles,
    suspend,
    softDelete,
    interfaces,
    guestReports: new GuestReports(driver, power, config.libvirt.virtType),
    adminPassword: new AdminPassword({ driver, actions, records, power, instanceNameTemplate }),
    actions,
    snapshots,
    quiesce: new Quiesce(driver, records, instanceNameTemplate),
    rebuilder,
    rescue,
    resize,
    resizeEnd,
    shelve,
    unshelve,
    fixedIps: new FixedIps({ neutron, actions, records, networkCache }),
    imageCaching: { driver, glance, templates, logger },
    neutronNews: new NeutronNews(events, networkCache, interfaces, records, logger),
    tracker,
    refusals: refusals({ actions }),
  });
  return new ComputeService({
    config,
    conductor,
    driver,
    hosts,
    instances: records,
    tracker,
    recovery,
    softDelete,
    resizeEnd,
    shelve,
    housekeeping: new Housekeeping({
      config,
      host,
      driver,
      records,
      networks,
      power,
      rescue,
      squirrel,
      locks,
      logger,
    }),
    usageAudit: new UsageAudit({
      records,
      taskLogs: new TaskLogs(conductor, host),
      news,
      host,
      logger,
      options: {
        enabled: config.default.instanceUsageAudit,
        period: config.default.instanceUsageAuditPeriod,
      },
    }),
    powerSync: new PowerSync({ driver, records, tracker, locks, logger }),
    networkCache,
    neutron,
    scheduler,
    locks,
    topics: new RpcTopics(messaging, host, endpoints),
    logger,
  });
}
