/**
 * What the end of the service cut short of the longer operations on servers: snapshots, rebuilds, rescues, resizes,
 * shelving. Each server is put into a state that its user can act on (nova/compute/manager.py, _init_instance).
 */
import type { ComputeDriver } from '../../drivers/driver';
import { BuildAbortException, InstanceNotFound, InstanceNotRescuable } from '../exceptions';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceRecords } from './instance-records';
import type { Rescue } from './rescue';
import type { ResizeEnd } from './resize-end';
import type { Shelve } from './shelve';
import type { Snapshots } from './snapshot';
import { TaskState, VmState } from './states';
import type { Unshelve } from './unshelve';

/** What is worked with. */
export interface InterruptedParts {
  readonly driver: Pick<ComputeDriver, 'abandonSnapshot'>;
  readonly records: Pick<InstanceRecords, 'save' | 'createFault'>;
  readonly rescue: Pick<Rescue, 'unrescue'>;
  readonly resizeEnd: Pick<ResizeEnd, 'recover'>;
  readonly shelve: Pick<Shelve, 'recover'>;
  readonly unshelve: Pick<Unshelve, 'putBack'>;
  readonly snapshots: Pick<Snapshots, 'deleteUnfinished'>;
}

const SNAPSHOTS: readonly (string | null)[] = [
  TaskState.IMAGE_SNAPSHOT_PENDING,
  TaskState.IMAGE_SNAPSHOT,
  TaskState.IMAGE_PENDING_UPLOAD,
  TaskState.IMAGE_UPLOADING,
  TaskState.IMAGE_BACKUP,
];

const REBUILDS: readonly (string | null)[] = [
  TaskState.REBUILDING,
  TaskState.REBUILD_BLOCK_DEVICE_MAPPING,
  TaskState.REBUILD_SPAWNING,
];

/** Puts servers in order whose operation was cut short. */
export class InterruptedOperations {
  constructor(private readonly parts: InterruptedParts) {}

  /** @returns whether there was one of these operations, which is then dealt with */
  async recover(context: RequestContext, instance: Instance, log: Logger): Promise<boolean> {
    const { taskState } = instance;
    if (REBUILDS.includes(taskState)) {
      log.warn({ taskState }, 'a rebuild was cut short');
      const reason = 'the compute service was restarted while it was rebuilding the server';
      await this.fail(context, instance, new BuildAbortException(reason));
      return true;
    }
    if (taskState === TaskState.RESCUING) {
      log.warn('a rescue was cut short');
      const reason = 'the compute service was restarted while it was rescuing the server';
      await this.fail(context, instance, new InstanceNotRescuable(reason));
      return true;
    }
    if (taskState === TaskState.UNRESCUING) {
      log.info('the end of a rescue was cut short; doing it again');
      await this.parts.rescue.unrescue(context, instance);
      return true;
    }
    if (taskState === TaskState.SPAWNING && instance.vmState === VmState.SHELVED_OFFLOADED) {
      log.warn('taking the server from the shelf was cut short; putting it back');
      await this.parts.unshelve.putBack(context, instance);
      instance.set('task_state', null);
      await this.parts.records.save(context, instance);
      return true;
    }
    if (await this.parts.shelve.recover(context, instance, log)) return true;
    if (await this.parts.resizeEnd.recover(context, instance, log)) return true;
    if (!SNAPSHOTS.includes(taskState)) return false;
    log.info({ taskState }, 'a snapshot was cut short');
    await this.abandonSnapshot(instance);
    instance.set('task_state', null);
    await this.parts.records.save(context, instance);
    await this.parts.snapshots.deleteUnfinished(instance);
    return true;
  }

  /** What was asked for is gone with the request; the user may ask again. */
  private async fail(context: RequestContext, instance: Instance, reason: Error): Promise<void> {
    await this.parts.records.createFault(context, instance.uuid, reason);
    instance.update({ vm_state: VmState.ERROR, task_state: null });
    await this.parts.records.save(context, instance);
  }

  private async abandonSnapshot(instance: Instance): Promise<void> {
    try {
      await this.parts.driver.abandonSnapshot(instance.uuid);
    } catch (error) {
      if (!(error instanceof InstanceNotFound)) throw error;
    }
  }
}
