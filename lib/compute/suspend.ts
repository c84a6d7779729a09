/**
 * Suspending servers to disk and resuming them (nova/compute/manager.py: suspend_instance, resume_instance).
 */
import type { ComputeDriver } from '../../drivers/driver';
import { NotImplementedError } from '../exceptions';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import type { NetworkCache } from './network-cache';
import type { Power } from './power';
import { TaskState, VmState } from './states';
import type { Vtpm } from './vtpm';

/** What suspending works with. */
export interface SuspendParts {
  readonly driver: ComputeDriver;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly networkCache: NetworkCache;
  readonly power: Power;
  readonly vtpm: Pick<Vtpm, 'withSecret'>;
  readonly instanceNameTemplate: string;
}

/** Where Nova keeps what a server was before it was suspended. */
const OLD_STATE = 'old_vm_state';

/** Suspends and resumes. */
export class Suspend {
  constructor(private readonly parts: SuspendParts) {}

  async suspend(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, driver, power, records } = this.parts;
    await actions.run(context, instance, 'suspend_instance', async () => {
      // A suspend that is taken up again after a restart of the service has noted it already.
      const before = instance.systemMetadata[OLD_STATE] ?? instance.vmState;
      instance.set('system_metadata', { ...instance.systemMetadata, [OLD_STATE]: before });
      await this.orError(instance, () => driver.suspend(instance.uuid));
      instance.update({
        power_state: await power.powerState(instance),
        vm_state: VmState.SUSPENDED,
        task_state: null,
      });
      await records.save(context, instance, [TaskState.SUSPENDING]);
    });
  }

  async resume(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, driver, networkCache, power, records, vtpm, instanceNameTemplate } = this.parts;
    await actions.run(context, instance, 'resume_instance', async () => {
      const network = await networkCache.refresh(context, instance);
      await this.orError(instance, async () => {
        const spec = instanceSpec(instance, instanceNameTemplate);
        await driver.resume(await vtpm.withSecret(context, instance, spec), network);
      });
      const { [OLD_STATE]: before, ...kept } = instance.systemMetadata;
      instance.update({
        power_state: await power.powerState(instance),
        vm_state: before ?? VmState.ACTIVE,
        task_state: null,
        system_metadata: kept,
      });
      await records.save(context, instance, [TaskState.RESUMING]);
    });
  }

  /** A guest that could not be saved or restored may be anything (nova: _error_out_instance_on_exception). */
  private async orError(instance: Instance, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof NotImplementedError)) instance.set('vm_state', VmState.ERROR);
      throw error;
    }
  }
}
