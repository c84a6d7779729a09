/**
 * Deleting a server (nova/compute/manager.py: terminate_instance, _delete_instance). Every step may run again, so that a
 * delete cut short by a crash is simply done once more.
 */
import type { ComputeDriver } from '../../drivers/driver';
import { PowerState } from '../../drivers/driver';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { type RequestContext, isRemoteError } from '../messaging';
import { type Instance, novaTime } from '../objects';
import type { Placement } from '../openstack';
import { DeletedDuringBuild } from './build-failure';
import type { InstanceActions } from './instance-actions';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import type { ServerNetworks } from './network';
import type { ResourceTracker } from './resource-tracker';
import type { SchedulerNews } from './scheduler-news';
import { VmState } from './states';
import type { Vtpm } from './vtpm';

/** What deletes work with. */
export interface TerminatorParts {
  readonly driver: ComputeDriver;
  readonly actions: InstanceActions;
  readonly locks: InstanceLocks;
  readonly records: InstanceRecords;
  readonly networks: ServerNetworks;
  readonly tracker: ResourceTracker;
  readonly placement: Placement;
  readonly scheduler: SchedulerNews;
  readonly vtpm: Pick<Vtpm, 'deleteSecret'>;
  readonly instanceNameTemplate: string;
}

/** Deletes servers. */
export class Terminator {
  constructor(private readonly parts: TerminatorParts) {}

  /** Handles the RPC: a build of the same server under way is told to stop first. */
  async terminate(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, locks, records } = this.parts;
    locks.abort(instance.uuid, new DeletedDuringBuild());
    try {
      await actions.run(context, instance, 'terminate_instance', (log) =>
        this.delete(context, instance, log),
      );
    } catch (error) {
      if (isRemoteError(error, 'InstanceNotFound')) return;
      instance.update({ vm_state: VmState.ERROR, task_state: null });
      await records.save(context, instance);
      throw error;
    }
  }

  /** All that belongs to the server goes, its record last. */
  async delete(context: RequestContext, instance: Instance, log: Logger): Promise<void> {
    const { driver, networks, records, tracker, placement, scheduler, vtpm } = this.parts;
    await driver.destroy({ uuid: instance.uuid, name: instance.nameFrom(this.parts.instanceNameTemplate) });
    await vtpm.deleteSecret(context, instance);
    await networks.deallocate(instance, instance.networkInfo);
    await records.deleteVirtualInterfaces(context, instance.uuid);
    await records.saveNetworkInfo(context, instance, []);
    instance.update({
      vm_state: VmState.DELETED,
      task_state: null,
      power_state: PowerState.NOSTATE,
      terminated_at: novaTime(new Date()),
    });
    await records.save(context, instance);
    for (const mapping of await records.blockDeviceMappings(context, instance.uuid)) {
      await records.destroyBlockDeviceMapping(context, mapping);
    }
    tracker.release(instance.uuid);
    await tracker
      .publish(context)
      .catch((error: unknown) => log.warn(`usage could not be written: ${describeError(error)}`));
    await placement.deleteAllocations(instance.uuid);
    await records.cleanConsoles(context, instance.uuid);
    await records.destroy(context, instance);
    await scheduler.instanceDeleted(context, instance.uuid);
    log.info('server deleted');
  }
}
