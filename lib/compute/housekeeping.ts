/**
 * What nobody asks for and still has to be done from time to time: servers that hang or should be gone, leftovers in the
 * database and on disk (nova/compute/manager.py: _cleanup_running_deleted_instances, _check_instance_build_time,
 * _poll_rebooting_instances, _poll_rescued_instances, _cleanup_expired_console_auth_tokens, _run_image_cache_manager_pass).
 */
import type { ComputeDriver } from '../../drivers/driver';
import type { Config } from '../config';
import { BuildAbortException, describeError } from '../exceptions';
import type { Logger } from '../log';
import { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { Squirrel } from '../squirrel';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import type { ServerNetworks } from './network';
import type { PeriodicTask } from './periodic';
import type { Power } from './power';
import type { Rescue } from './rescue';
import { TaskState, VmState } from './states';

/** How often servers are looked at for being stuck: Nova's default period of a periodic task. */
const LOOK_MS = 60_000;

/** What housekeeping works with. */
export interface HousekeepingParts {
  readonly config: Config;
  readonly host: string;
  readonly driver: Pick<ComputeDriver, 'listInstanceUuids' | 'destroy' | 'powerOff' | 'removeUnusedImages'>;
  readonly records: InstanceRecords;
  readonly networks: Pick<ServerNetworks, 'deallocate'>;
  readonly power: Pick<Power, 'reboot'>;
  readonly rescue: Pick<Rescue, 'unrescue'>;
  readonly squirrel: Pick<Squirrel, 'list'>;
  readonly locks: InstanceLocks;
  readonly logger: Logger;
}

/** Keeps house. */
export class Housekeeping {
  constructor(private readonly parts: HousekeepingParts) {}

  /** What is to be done how often; nothing that the operator turned off. */
  tasks(): PeriodicTask[] {
    const { default: options, imageCache } = this.parts.config;
    const everySeconds = (name: string, seconds: number, run: () => Promise<void>): PeriodicTask[] =>
      // 0 means Nova's default period.
      seconds < 0 ? [] : [{ name, intervalMs: seconds === 0 ? LOOK_MS : seconds * 1000, run }];
    return [
      ...(options.runningDeletedInstanceAction === 'noop'
        ? []
        : everySeconds('running-deleted', options.runningDeletedInstancePollInterval, () =>
            this.endDeletedServers(),
          )),
      ...(options.instanceBuildTimeout === 0
        ? []
        : everySeconds('build-timeout', 0, () => this.failStuckBuilds())),
      ...(options.rebootTimeout === 0
        ? []
        : everySeconds('reboot-timeout', 0, () => this.repeatStuckReboots())),
      ...(options.rescueTimeout === 0 ? [] : everySeconds('rescue-timeout', 0, () => this.endOldRescues())),
      ...everySeconds('console-tokens', options.instanceDeleteInterval, () =>
        this.parts.records.cleanExpiredConsoles(RequestContext.admin()),
      ),
      ...(imageCache.removeUnusedBaseImages
        ? everySeconds('base-images', imageCache.managerInterval, () => this.removeUnusedImages())
        : []),
    ];
  }

  /** Domains of servers that the database says are deleted. */
  async endDeletedServers(now = Date.now()): Promise<void> {
    const { config, driver, records, locks, logger } = this.parts;
    const { runningDeletedInstanceAction: action, runningDeletedInstanceTimeout: timeoutS } = config.default;
    const uuids = (await driver.listInstanceUuids()).filter((uuid) => !locks.busy(uuid));
    if (uuids.length === 0) return;
    const context = RequestContext.admin().elevated(true);
    const filters = { deleted: true, soft_deleted: false, uuid: uuids };
    for (const instance of await records.listByFilters(context, filters)) {
      const { uuid, deletedAt } = instance;
      if (deletedAt !== null && now - deletedAt.getTime() < timeoutS * 1000) continue;
      logger.warn({ instance_uuid: uuid, action }, 'the server was deleted, but is still on this host');
      await this.guarded(instance, async () => {
        if (action === 'shutdown') await driver.powerOff(uuid, 0);
        if (action === 'reap') await this.reap(instance);
      });
    }
  }

  /** Servers that are being built for longer than the operator allows: nobody may be building them any more. */
  async failStuckBuilds(now = Date.now()): Promise<void> {
    const { config, records, host } = this.parts;
    const timeoutS = config.default.instanceBuildTimeout;
    const context = RequestContext.admin();
    for (const instance of await records.listByFilters(context, { vm_state: VmState.BUILDING, host })) {
      if (!olderThan(instance.createdAt, timeoutS, now)) continue;
      await this.guarded(instance, async () => {
        const { locks } = this.parts;
        const reason = new BuildAbortException(`the server was not built within ${timeoutS} s`);
        // Whoever still builds it takes back what it made and leaves the fault.
        if (locks.busy(instance.uuid)) {
          locks.abort(instance.uuid, reason);
          return;
        }
        instance.update({ vm_state: VmState.ERROR, task_state: null });
        await records.save(context, instance);
        await records.createFault(context, instance.uuid, reason);
      });
    }
  }

  /** Reboots that were asked for and that nobody is at: the request was lost. */
  async repeatStuckReboots(now = Date.now()): Promise<void> {
    const { config, records, power, locks, host } = this.parts;
    const context = RequestContext.admin();
    const states = [TaskState.REBOOTING, TaskState.REBOOT_STARTED, TaskState.REBOOT_PENDING];
    for (const instance of await records.listByFilters(context, { task_state: states, host })) {
      if (locks.busy(instance.uuid)) continue;
      if (!olderThan(instance.updatedAt, config.default.rebootTimeout, now)) continue;
      await this.guarded(instance, async () => {
        instance.set('task_state', TaskState.REBOOTING_HARD);
        await records.save(context, instance);
        await records.startAction(context, instance.uuid, 'reboot');
        await power.reboot(context, instance, 'HARD');
      });
    }
  }

  /** Servers that were rescued so long ago that their users have forgotten them. */
  async endOldRescues(now = Date.now()): Promise<void> {
    const { config, records, rescue, locks, host } = this.parts;
    const context = RequestContext.admin();
    for (const instance of await records.listByFilters(context, { vm_state: VmState.RESCUED, host })) {
      if (locks.busy(instance.uuid) || instance.taskState !== null) continue;
      if (!olderThan(instance.launchedAt, config.default.rescueTimeout, now)) continue;
      await this.guarded(instance, async () => {
        instance.set('task_state', TaskState.UNRESCUING);
        await records.save(context, instance, [null]);
        await records.startAction(context, instance.uuid, 'unrescue');
        await rescue.unrescue(context, instance);
      });
    }
  }

  /** Base images that neither a server nor a µVM of this host is of. */
  async removeUnusedImages(): Promise<void> {
    const { config, records, squirrel, driver } = this.parts;
    const here = await records.listOnHost(RequestContext.admin());
    const kept = await squirrel.list();
    const imagesInUse = new Set([
      ...here.flatMap((server) => [server.imageRef, server.systemMetadata.image_base_image_ref ?? '']),
      ...kept.flatMap((entry) => (entry.state === 'unreadable' ? [] : [entry.manifest.image.id])),
    ]);
    const { removeUnusedOriginalMinimumAgeSeconds } = config.imageCache;
    await driver.removeUnusedImages(imagesInUse, removeUnusedOriginalMinimumAgeSeconds * 1000);
  }

  private async reap(instance: Instance): Promise<void> {
    const { driver, networks, config } = this.parts;
    const name = instance.nameFrom(config.default.instanceNameTemplate);
    await driver.destroy({ uuid: instance.uuid, name });
    await networks.deallocate(instance, instance.networkInfo);
  }

  /** One server that cannot be helped does not keep the others from being. */
  private async guarded(instance: Instance, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.parts.logger.warn({ instance_uuid: instance.uuid }, `housekeeping: ${describeError(error)}`);
    }
  }
}

function olderThan(date: Date | null, seconds: number, now: number): boolean {
  return date !== null && now - date.getTime() > seconds * 1000;
}
