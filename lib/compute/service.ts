/**
 * The compute service's life: from the first word to the conductor until the last reply
 * (nova/service.py and ComputeManager.init_host).
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ComputeDriver } from '../../drivers/driver';
import type { Config } from '../config';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { RequestContext } from '../messaging';
import type { Conductor, Service } from '../objects';
import type { Neutron } from '../openstack';
import type { HostRecords } from './host-records';
import type { Housekeeping } from './housekeeping';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import { noteMachineTypes } from './machine-type';
import type { NetworkCache } from './network-cache';
import { Periodic } from './periodic';
import type { PowerSync } from './power-sync';
import type { Recovery } from './recovery';
import { reportedServiceVersion } from './release';
import type { ResizeEnd } from './resize-end';
import type { ResourceTracker } from './resource-tracker';
import type { SchedulerNews } from './scheduler-news';
import type { RpcTopics } from './rpc-topics';
import type { Shelve } from './shelve';
import type { SoftDelete } from './soft-delete';
import type { UsageAudit } from './usage-audit';

const CONDUCTOR_RETRY_MS = 1_000;
const SCHEDULER_SYNC_MS = 120_000;
const RECLAIM_MS = 60_000;
const PREPARE_NEUTRON_MS = 60_000;
const CONFIRM_MS = 60_000;
/** The longest that a timer can be set to. */
const FOR_EVER_MS = 2 ** 31 - 1;

/** What the service is made of. */
export interface ComputeServiceParts {
  readonly config: Config;
  readonly conductor: Conductor;
  readonly driver: ComputeDriver;
  readonly hosts: HostRecords;
  readonly instances: InstanceRecords;
  readonly tracker: ResourceTracker;
  readonly recovery: Recovery;
  readonly softDelete: SoftDelete;
  readonly resizeEnd: ResizeEnd;
  readonly shelve: Shelve;
  readonly housekeeping: Housekeeping;
  readonly usageAudit: UsageAudit;
  readonly powerSync: PowerSync;
  readonly networkCache: NetworkCache;
  readonly neutron: Pick<Neutron, 'prepare'>;
  readonly scheduler: SchedulerNews;
  readonly locks: InstanceLocks;
  readonly topics: RpcTopics;
  readonly logger: Logger;
}

/** Operations did not end in the time they had when the service stops. */
export class StillBusy extends Error {
  /** @param servers their uuids */
  constructor(seconds: number, servers: readonly string[]) {
    super(
      `operations on ${servers.length} servers did not end within ${seconds} s and are interrupted ` +
        `(graceful_shutdown_timeout); the next start puts them in order: ${servers.join(', ')}`,
    );
    this.name = 'StillBusy';
  }
}

/** A compute host that Nova takes for one of its own. */
export class ComputeService {
  private readonly periodic: Periodic;
  private healNext = 0;

  constructor(private readonly parts: ComputeServiceParts) {
    this.periodic = new Periodic(parts.logger);
  }

  /** Resolves when the host is up and takes requests. @throws what the driver's initHost throws */
  async start(signal: AbortSignal): Promise<void> {
    const { config, driver, hosts, instances, tracker, recovery, powerSync, neutron, topics, logger } =
      this.parts;
    const context = RequestContext.admin();
    neutron
      .prepare()
      .catch((error: unknown) => logger.warn(`Neutron does not answer yet: ${describeError(error)}`));
    await this.waitForConductor(context, signal);
    await driver.initHost();
    const version = await this.deployedVersion(context);
    const service = await hosts.ensureService(context, version);
    await tracker.start(context, { disabled: service.disabled });
    await recovery.run(context);
    await noteMachineTypes(context, instances);
    driver.onLifecycle((event) => powerSync.onLifecycle(event));
    await this.followHypervisor(true);
    driver.onConnection((connected) => {
      this.followHypervisor(connected).catch((error: unknown) =>
        logger.warn(`the host's state could not be changed: ${describeError(error)}`),
      );
    });
    await topics.serve(version);
    await hosts.reportState(context, service);
    this.startPeriodic(service);
    logger.info({ host: config.default.host, node: tracker.nodeName, version }, 'compute service is up');
  }

  /**
   * Takes no more requests, lets running operations end, and falls silent.
   *
   * @throws StillBusy when operations are left after `graceful_shutdown_timeout`
   */
  async stop(): Promise<void> {
    const { config, locks, topics } = this.parts;
    const seconds = config.default.gracefulShutdownTimeout;
    const deadlineMs = seconds === 0 ? FOR_EVER_MS : seconds * 1000;
    const deadline = delay(deadlineMs, undefined, { ref: false });
    await topics.stop(deadlineMs);
    await Promise.race([Promise.all([locks.idle(), this.periodic.stop()]), deadline]);
    if (locks.holders.length > 0) throw new StillBusy(seconds, locks.holders);
  }

  private async waitForConductor(context: RequestContext, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      try {
        await this.parts.conductor.ping(context);
        return;
      } catch (error) {
        this.parts.logger.warn(`nova-conductor does not answer, trying again: ${describeError(error)}`);
        await delay(CONDUCTOR_RETRY_MS, undefined, { signal });
      }
    }
  }

  private startPeriodic(service: Service): void {
    const { config, hosts, tracker, instances, scheduler, powerSync, softDelete, neutron } = this.parts;
    const {
      reportIntervalMs,
      updateResourcesIntervalMs,
      healInstanceInfoCacheIntervalMs,
      powerSyncIntervalMs,
    } = intervals(config);
    this.periodic.start({
      name: 'report-state',
      intervalMs: reportIntervalMs,
      run: () => hosts.reportState(RequestContext.admin(), service),
    });
    this.periodic.start({
      name: 'follow-release',
      intervalMs: config.default.serviceDownTime * 1000,
      run: () => this.followRelease(service),
    });
    this.periodic.start({
      name: 'prepare-neutron',
      intervalMs: PREPARE_NEUTRON_MS,
      run: () => neutron.prepare(),
    });
    this.periodic.start({
      name: 'update-resources',
      intervalMs: updateResourcesIntervalMs,
      run: () => tracker.update(RequestContext.admin()),
    });
    if (healInstanceInfoCacheIntervalMs > 0) {
      this.periodic.start({
        name: 'heal-network-cache',
        intervalMs: healInstanceInfoCacheIntervalMs,
        run: () => this.healOneNetwork(),
      });
    }
    this.periodic.start({
      name: 'sync-scheduler',
      intervalMs: SCHEDULER_SYNC_MS,
      run: async () => {
        const context = RequestContext.admin();
        const here = await instances.listOnHost(context);
        await scheduler.sync(
          context,
          here.map((instance) => instance.uuid),
        );
      },
    });
    if (config.default.reclaimInstanceInterval > 0) {
      this.periodic.start({ name: 'reclaim', intervalMs: RECLAIM_MS, run: () => softDelete.reclaim() });
    }
    if (powerSyncIntervalMs > 0) {
      this.periodic.start({
        name: 'sync-power',
        intervalMs: powerSyncIntervalMs,
        run: () => powerSync.syncAll(),
      });
    }
    const { resizeConfirmWindow, shelvedOffloadTime, shelvedPollInterval } = config.default;
    if (shelvedOffloadTime > 0) {
      const run = (): Promise<void> => this.parts.shelve.offloadOld();
      this.periodic.start({ name: 'offload-shelved', intervalMs: shelvedPollInterval * 1000, run });
    }
    if (resizeConfirmWindow > 0) {
      const run = (): Promise<void> => this.parts.resizeEnd.confirmOld(resizeConfirmWindow);
      this.periodic.start({ name: 'confirm-resizes', intervalMs: CONFIRM_MS, run });
    }
    const { housekeeping, usageAudit } = this.parts;
    for (const task of [...housekeeping.tasks(), ...usageAudit.tasks()]) this.periodic.start(task);
  }

  private async deployedVersion(context: RequestContext): Promise<number> {
    const { config, hosts } = this.parts;
    return reportedServiceVersion(await hosts.conductors(context), config.default.serviceDownTime * 1000);
  }

  /** The cloud is upgraded around a service that runs; its next sign of life carries the other version. */
  private async followRelease(service: Service): Promise<void> {
    const version = await this.deployedVersion(RequestContext.admin());
    if (version === service.version) return;
    this.parts.logger.info({ from: service.version, to: version }, 'the cloud is of another release now');
    await this.parts.topics.serve(version);
    service.set('version', version);
  }

  /** A host without its hypervisor gets no new servers. */
  private async followHypervisor(connected: boolean): Promise<void> {
    const { hosts, tracker } = this.parts;
    const reason = connected ? null : 'Connection to libvirt lost';
    if (await hosts.setDisabled(RequestContext.admin(), reason)) await tracker.setEnabled(connected);
  }

  /** One server per round, as nova-compute does: the cost does not grow with the number of servers. */
  private async healOneNetwork(): Promise<void> {
    const { instances, networkCache, locks } = this.parts;
    const context = RequestContext.admin();
    const here = await instances.listOnHost(context);
    const instance = here[this.healNext++ % Math.max(1, here.length)];
    if (instance === undefined || instance.taskState !== null || locks.busy(instance.uuid)) return;
    await networkCache.refresh(context, instance);
  }
}

function intervals(config: Config): {
  reportIntervalMs: number;
  updateResourcesIntervalMs: number;
  healInstanceInfoCacheIntervalMs: number;
  powerSyncIntervalMs: number;
} {
  const seconds = config.default;
  // 0 means Nova's default period of a minute for the audit, never for healing.
  const audit = seconds.updateResourcesInterval > 0 ? seconds.updateResourcesInterval : 60;
  return {
    reportIntervalMs: seconds.reportInterval * 1000,
    updateResourcesIntervalMs: audit * 1000,
    healInstanceInfoCacheIntervalMs: Math.max(0, seconds.healInstanceInfoCacheInterval) * 1000,
    powerSyncIntervalMs: (seconds.syncPowerStateInterval === 0 ? 60 : seconds.syncPowerStateInterval) * 1000,
  };
}
