/**
 * Servers put on the shelf: switched off, kept as an image, and sooner or later taken off this host
 * (nova/compute/manager.py: shelve_instance, shelve_offload_instance, _poll_shelved_instances). The way back is in
 * `unshelve.ts`.
 */
import { z } from 'zod';
import { type ComputeDriver, PowerState } from '../../drivers/driver';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { Placement } from '../openstack';
import type { InstanceActions } from './instance-actions';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import type { Power } from './power';
import type { ResourceTracker } from './resource-tracker';
import type { SchedulerNews } from './scheduler-news';
import { noteShelving, shelvedAt } from './shelving';
import type { Snapshots } from './snapshot';
import { SHELVE_TASK_STATES, TaskState, VmState } from './states';

/** What shelving works with. */
export interface ShelveParts {
  readonly driver: Pick<ComputeDriver, 'destroy'>;
  readonly actions: InstanceActions;
  readonly locks: Pick<InstanceLocks, 'busy'>;
  readonly records: InstanceRecords;
  readonly power: Pick<Power, 'powerOff' | 'powerState'>;
  readonly snapshots: Pick<Snapshots, 'fill' | 'unlessDeleted' | 'deleteUnfinished'>;
  readonly tracker: Pick<ResourceTracker, 'release' | 'publish'>;
  readonly placement: Pick<Placement, 'deleteAllocations'>;
  readonly scheduler: Pick<SchedulerNews, 'instanceDeleted'>;
  readonly logger: Logger;
  readonly options: {
    readonly host: string;
    readonly instanceNameTemplate: string;
    /** How long a shelved server stays on this host (`shelved_offload_time`): 0 not at all, below 0 for ever. */
    readonly offloadAfterS: number;
  };
}

const shelveSchema = z.looseObject({ image_id: z.string(), clean_shutdown: z.boolean().default(true) });
const offloadSchema = z.looseObject({ clean_shutdown: z.boolean().default(true) });
const STATES = {
  before: TaskState.SHELVING,
  pending: TaskState.SHELVING_IMAGE_PENDING_UPLOAD,
  uploading: TaskState.SHELVING_IMAGE_UPLOADING,
};

/** Shelves servers. */
export class Shelve {
  constructor(private readonly parts: ShelveParts) {}

  async shelve(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { actions, records, power, snapshots, options } = this.parts;
    const { image_id: imageId, clean_shutdown: clean } = shelveSchema.parse(args);
    await actions.run(context, instance, 'shelve_instance', async (log, signal) => {
      await snapshots.unlessDeleted(imageId, signal, log, async () => {
        const paused = instance.powerState === PowerState.PAUSED;
        await power.powerOff(instance, clean && !paused);
        await snapshots.fill(context, instance, imageId, STATES, signal);
        noteShelving(instance, imageId, options.host);
        const offload = options.offloadAfterS === 0;
        instance.update({
          vm_state: VmState.SHELVED,
          task_state: offload ? TaskState.SHELVING_OFFLOADING : null,
          power_state: await power.powerState(instance),
        });
        await records.save(context, instance, [STATES.before, STATES.uploading]);
      });
      if (instance.taskState === TaskState.SHELVING_OFFLOADING) await this.takeOff(context, instance, false);
    });
  }

  /** Takes a shelved server off this host; its image is all that is left of it. */
  async offload(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { clean_shutdown: clean } = offloadSchema.parse(args);
    await this.parts.actions.run(context, instance, 'shelve_offload_instance', () =>
      this.takeOff(context, instance, clean),
    );
  }

  /** Takes off what has been on the shelf long enough; one that fails does not stop the others. */
  async offloadOld(now = Date.now()): Promise<void> {
    const { records, locks, logger, options } = this.parts;
    if (options.offloadAfterS <= 0) return;
    const context = RequestContext.admin();
    for (const instance of await records.listOnHost(context)) {
      if (instance.vmState !== VmState.SHELVED || instance.taskState !== null || locks.busy(instance.uuid))
        continue;
      const since = shelvedAt(instance);
      if (since === null || now - since.getTime() < options.offloadAfterS * 1000) continue;
      try {
        instance.set('task_state', TaskState.SHELVING_OFFLOADING);
        await records.save(context, instance, [null]);
        await this.offload(context, instance, { clean_shutdown: false });
      } catch (error) {
        logger.warn({ instance_uuid: instance.uuid }, `not taken off this host: ${describeError(error)}`);
      }
    }
  }

  /**
   * Puts a server in order that was being shelved when the service ended: it is stopped as it was before its image, or off
   * this host. @returns whether there was one
   */
  async recover(context: RequestContext, instance: Instance, log: Logger): Promise<boolean> {
    const { records, power, snapshots } = this.parts;
    const { taskState } = instance;
    if (taskState === TaskState.SHELVING_OFFLOADING) {
      log.info('taking the server off this host was cut short; doing it again');
      await this.offload(context, instance, { clean_shutdown: false });
      return true;
    }
    if (!SHELVE_TASK_STATES.includes(taskState)) return false;
    log.warn({ taskState }, 'shelving was cut short');
    const powerState = await power.powerState(instance);
    const stopped = instance.vmState === VmState.ACTIVE && powerState === PowerState.SHUTDOWN;
    instance.update({
      task_state: null,
      power_state: powerState,
      ...(stopped ? { vm_state: VmState.STOPPED } : {}),
    });
    await records.save(context, instance);
    await snapshots.deleteUnfinished(instance);
    return true;
  }

  private async takeOff(context: RequestContext, instance: Instance, clean: boolean): Promise<void> {
    const { driver, records, power, tracker, placement, scheduler, options } = this.parts;
    const powerState = await power.powerState(instance);
    // Of one that was being taken off when the service ended the domain may be gone.
    if (powerState !== PowerState.NOSTATE) await power.powerOff(instance, clean);
    await driver.destroy({ uuid: instance.uuid, name: instance.nameFrom(options.instanceNameTemplate) });
    await placement.deleteAllocations(instance.uuid);
    instance.update({
      power_state: PowerState.SHUTDOWN,
      vm_state: VmState.SHELVED_OFFLOADED,
      task_state: null,
    });
    await records.save(context, instance, [TaskState.SHELVING, TaskState.SHELVING_OFFLOADING]);
    tracker.release(instance.uuid);
    await tracker.publish(context);
    instance.update({ host: null, node: null });
    await records.save(context, instance);
    await scheduler.instanceDeleted(context, instance.uuid);
  }
}
