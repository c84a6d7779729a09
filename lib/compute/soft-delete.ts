/**
 * Servers that are deleted but can still be had back: switched off, restored, and reclaimed when their time is over
 * (nova/compute/manager.py: soft_delete_instance, restore_instance, _reclaim_queued_deletes).
 */
import type { ComputeDriver } from '../../drivers/driver';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceActions } from './instance-actions';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import type { NetworkCache } from './network-cache';
import type { Power } from './power';
import { TaskState, VmState } from './states';
import type { Terminator } from './terminate';
import type { Vtpm } from './vtpm';

/** What soft deletes work with. */
export interface SoftDeleteParts {
  readonly driver: ComputeDriver;
  readonly actions: InstanceActions;
  readonly locks: InstanceLocks;
  readonly records: InstanceRecords;
  readonly networkCache: NetworkCache;
  readonly power: Power;
  readonly vtpm: Pick<Vtpm, 'withSecret'>;
  readonly terminator: Terminator;
  readonly logger: Logger;
  readonly options: {
    readonly instanceNameTemplate: string;
    /** How long a deleted server can be had back (`reclaim_instance_interval`); 0 or less: for ever. */
    readonly reclaimAfterMs: number;
  };
}

/** Deletes servers for a while. */
export class SoftDelete {
  constructor(private readonly parts: SoftDeleteParts) {}

  async delete(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, driver } = this.parts;
    await actions.run(context, instance, 'soft_delete_instance', async () => {
      await driver.powerOff(instance.uuid, 0);
      await this.settle(context, instance, VmState.SOFT_DELETED, TaskState.SOFT_DELETING);
    });
  }

  async restore(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, driver, networkCache, vtpm, options } = this.parts;
    await actions.run(context, instance, 'restore_instance', async () => {
      const network = await networkCache.refresh(context, instance);
      const spec = instanceSpec(instance, options.instanceNameTemplate);
      await driver.powerOn(await vtpm.withSecret(context, instance, spec), network);
      await this.settle(context, instance, VmState.ACTIVE, TaskState.RESTORING);
    });
  }

  /** Deletes for good what was deleted long enough ago; one that fails does not stop the others. */
  async reclaim(now = Date.now()): Promise<void> {
    const { records, locks, terminator, logger, options } = this.parts;
    if (options.reclaimAfterMs <= 0) return;
    const context = RequestContext.admin();
    for (const instance of await records.listOnHost(context)) {
      const { vmState, taskState, deletedAt, uuid } = instance;
      if (vmState !== VmState.SOFT_DELETED || taskState !== null || locks.busy(uuid)) continue;
      if (deletedAt === null || now - deletedAt.getTime() < options.reclaimAfterMs) continue;
      logger.info({ instance_uuid: uuid }, 'its time to be restored is over; deleting the server for good');
      await terminator
        .terminate(context, instance)
        .catch((error: unknown) =>
          logger.warn({ instance_uuid: uuid }, `not reclaimed: ${describeError(error)}`),
        );
    }
  }

  private async settle(
    context: RequestContext,
    instance: Instance,
    vmState: string,
    expected: string,
  ): Promise<void> {
    const { power, records } = this.parts;
    instance.update({
      power_state: await power.powerState(instance),
      vm_state: vmState,
      task_state: null,
    });
    await records.save(context, instance, [expected]);
  }
}
