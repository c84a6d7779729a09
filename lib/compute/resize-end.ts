/**
 * How a resize ends: kept, or taken back, by its user, by the clock, or because it failed or the service ended in its middle
 * (nova/compute/manager.py: confirm_resize, revert_resize, finish_revert_resize, _poll_unconfirmed_resizes).
 */
import { type ComputeDriver, PowerState } from '../../drivers/driver';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { RequestContext } from '../messaging';
import { type Instance, type Migration, novaTime } from '../objects';
import type { Placement } from '../openstack';
import { forgetChange, ranBefore, takeFlavor } from './flavor-change';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import type { NetworkCache } from './network-cache';
import type { Power } from './power';
import type { ResourceTracker } from './resource-tracker';
import type { SchedulerNews } from './scheduler-news';
import { RESIZE_TASK_STATES, TaskState, VmState } from './states';
import type { Vtpm } from './vtpm';

/** What the end of a resize works with. */
export interface ResizeEndParts {
  readonly driver: Pick<ComputeDriver, 'finishRevertMigration' | 'confirmMigration'>;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly networkCache: Pick<NetworkCache, 'refresh'>;
  readonly power: Pick<Power, 'powerState'>;
  readonly tracker: Pick<ResourceTracker, 'track' | 'publish'>;
  readonly placement: Pick<Placement, 'moveAllocations' | 'deleteAllocations'>;
  readonly scheduler: Pick<SchedulerNews, 'instanceUpdated'>;
  readonly vtpm: Pick<Vtpm, 'withSecret' | 'deleteUnused'>;
  readonly logger: Logger;
  readonly instanceNameTemplate: string;
}

const UNFINISHED = ['accepted', 'pre-migrating', 'migrating', 'post-migrating'];

/** Ends resizes. */
export class ResizeEnd {
  constructor(private readonly parts: ResizeEndParts) {}

  /** Lets go of what the server was before. A migration that is not waiting for it is left alone, as by Nova. */
  async confirm(context: RequestContext, given: Instance, migration: Migration): Promise<void> {
    const { actions, driver, records, placement, scheduler } = this.parts;
    await actions.run(context, given, 'confirm_resize', async (log) => {
      if (migration.status !== 'finished' && migration.status !== 'confirming') {
        log.warn({ status: migration.status }, 'there is nothing to confirm');
        return;
      }
      const instance = await records.get(context, given.uuid);
      try {
        await driver.confirmMigration(instance.uuid);
        await this.parts.vtpm.deleteUnused(context, instance);
        migration.set('status', 'confirmed');
        await records.saveMigration(context, migration);
        await records.dropMigrationContext(context, instance);
        const stopped = (await this.parts.power.powerState(instance)) === PowerState.SHUTDOWN;
        instance.update({ vm_state: stopped ? VmState.STOPPED : VmState.ACTIVE, task_state: null });
        await records.save(context, instance, [null, TaskState.DELETING, TaskState.SOFT_DELETING]);
      } catch (error) {
        given.set('vm_state', VmState.ERROR);
        throw error;
      } finally {
        await placement.deleteAllocations(migration.uuid);
      }
      await this.forgetFlavors(context, instance);
      void scheduler.instanceUpdated(context, instance);
    });
  }

  /** Gives the server back what it was. */
  async revert(context: RequestContext, instance: Instance, migration: Migration): Promise<void> {
    const { actions, records, scheduler } = this.parts;
    await actions.run(context, instance, 'revert_resize', async () => {
      try {
        await this.restore(context, instance, migration, 'reverted');
      } catch (error) {
        instance.set('vm_state', VmState.ERROR);
        throw error;
      }
      instance.update({ ...(await this.stateBefore(instance)), launched_at: novaTime(new Date()) });
      await records.save(context, instance, [TaskState.RESIZE_REVERTING]);
      await this.forgetFlavors(context, instance);
      void scheduler.instanceUpdated(context, instance);
    });
  }

  /**
   * Puts a server in order whose resize, revert or confirmation was cut short by the end of the service: a resize is taken
   * back, the others are done again. @returns whether there was one
   */
  async recover(context: RequestContext, instance: Instance, log: Logger): Promise<boolean> {
    const { records } = this.parts;
    const { taskState, vmState } = instance;
    if (taskState === TaskState.RESIZE_REVERTING) {
      const [migration] = await records.migrations(context, instance.uuid, ['reverting']);
      if (migration === undefined) return false;
      log.info('going back to the old flavor was cut short; doing it again');
      await this.revert(context, instance, migration);
      return true;
    }
    if (RESIZE_TASK_STATES.includes(taskState)) {
      log.warn({ taskState }, 'a resize was cut short; taking it back');
      const [migration] = await records.migrations(context, instance.uuid, UNFINISHED);
      await this.rollBack(context, instance, migration ?? null);
      instance.update(await this.stateBefore(instance));
      await records.save(context, instance);
      await this.forgetFlavors(context, instance);
      return true;
    }
    if (vmState !== VmState.RESIZED) return false;
    const [migration] = await records.migrations(context, instance.uuid, ['confirming']);
    if (migration === undefined) return false;
    log.info('the confirmation of a resize was cut short; doing it again');
    await this.confirm(context, instance, migration);
    return true;
  }

  /** Confirms what nobody confirmed for `windowS` seconds; one that fails does not stop the others. */
  async confirmOld(windowS: number): Promise<void> {
    const { records, logger } = this.parts;
    const context = RequestContext.admin();
    for (const migration of await records.unconfirmedMigrations(context, windowS)) {
      const log = logger.child({ instance_uuid: migration.instanceUuid });
      try {
        const instance = await records.get(context, migration.instanceUuid);
        if (instance.vmState !== VmState.RESIZED || instance.taskState !== null) continue;
        log.info('nobody confirmed the resize in time; confirming it');
        migration.set('status', 'confirming');
        await records.saveMigration(context, migration);
        await this.confirm(context, instance, migration);
      } catch (error) {
        log.warn(`the resize could not be confirmed: ${describeError(error)}`);
      }
    }
  }

  /** The old flavor, disks and allocation again, on whatever step the way ended. May be done again. */
  private async restore(
    context: RequestContext,
    instance: Instance,
    migration: Migration | null,
    outcome: 'reverted' | 'error',
  ): Promise<void> {
    const { driver, records, networkCache, placement, vtpm, instanceNameTemplate } = this.parts;
    if (instance.oldFlavor !== null) takeFlavor(instance, instance.oldFlavor);
    await records.save(context, instance);
    if (migration !== null) await placement.moveAllocations(migration.uuid, instance.uuid);
    const network = await networkCache.refresh(context, instance);
    const spec = instanceSpec(instance, instanceNameTemplate);
    await vtpm.deleteUnused(context, instance);
    const withSecret = await vtpm.withSecret(context, instance, spec);
    await driver.finishRevertMigration(withSecret, network, ranBefore(instance));
    await records.dropMigrationContext(context, instance);
    if (migration === null) return;
    migration.set('status', outcome);
    await records.saveMigration(context, migration);
  }

  /** After a failure whose own error counts. */
  async rollBack(context: RequestContext, instance: Instance, migration: Migration | null): Promise<void> {
    try {
      await this.restore(context, instance, migration, 'error');
    } catch (error) {
      const log = this.parts.logger.child({ instance_uuid: instance.uuid });
      log.error(`the resize could not be taken back: ${describeError(error)}`);
    }
  }

  private async stateBefore(instance: Instance): Promise<Readonly<Record<string, unknown>>> {
    const powerState = await this.parts.power.powerState(instance);
    const vmState = ranBefore(instance) ? VmState.ACTIVE : VmState.STOPPED;
    return { vm_state: vmState, task_state: null, power_state: powerState };
  }

  /** The last step of every way: until then the resource tracker counts both flavors. */
  private async forgetFlavors(context: RequestContext, instance: Instance): Promise<void> {
    const { records, tracker } = this.parts;
    forgetChange(instance);
    await records.save(context, instance);
    tracker.track(instance);
    await tracker.publish(context);
  }
}
