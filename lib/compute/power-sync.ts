/**
 * A guest's power state and Nova's idea of it, brought together: when libvirt reports a change, and from time to time
 * (nova/compute/manager.py: handle_lifecycle_event, _sync_power_states).
 */
import type { ComputeDriver, LifecycleEvent } from '../../drivers/driver';
import { PowerState } from '../../drivers/driver';
import { InstanceNotFound, describeError } from '../exceptions';
import type { Logger } from '../log';
import { RequestContext, isRemoteError } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import type { ResourceTracker } from './resource-tracker';
import { VmState } from './states';

/** What the synchronisation works with. */
export interface PowerSyncParts {
  readonly driver: ComputeDriver;
  readonly records: InstanceRecords;
  readonly tracker: ResourceTracker;
  readonly locks: InstanceLocks;
  readonly logger: Logger;
}

const DOWN: readonly PowerState[] = [PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE];

/** Brings Nova's records in line with the guests. */
export class PowerSync {
  constructor(private readonly parts: PowerSyncParts) {}

  /** For the driver's lifecycle events; an operation that is under way writes its own result. */
  onLifecycle(event: LifecycleEvent): void {
    if (event.kind === 'started' || this.parts.locks.busy(event.uuid)) return;
    this.sync(event.uuid).catch((error: unknown) => {
      this.parts.logger.warn(
        { instance_uuid: event.uuid },
        `power state not synchronised: ${describeError(error)}`,
      );
    });
  }

  /** All servers of this host. */
  async syncAll(): Promise<void> {
    for (const instance of await this.parts.records.listOnHost(RequestContext.admin())) {
      if (!this.parts.locks.busy(instance.uuid)) await this.sync(instance.uuid);
    }
  }

  private async sync(uuid: string): Promise<void> {
    const { driver, records, locks, tracker, logger } = this.parts;
    const context = RequestContext.admin();
    await locks.run(uuid, async () => {
      const instance = await this.find(context, uuid);
      if (instance === null || instance.taskState !== null || instance.vmState === VmState.BUILDING) return;
      const powerState = await this.powerState(uuid);
      if (powerState !== instance.powerState) instance.set('power_state', powerState);
      const { vmState } = instance;
      if ((vmState === VmState.ACTIVE || vmState === VmState.PAUSED) && DOWN.includes(powerState)) {
        logger.info({ instance_uuid: uuid }, 'the guest ended by itself; the server is stopped');
        instance.set('vm_state', VmState.STOPPED);
      } else if (vmState === VmState.STOPPED && !DOWN.includes(powerState)) {
        logger.warn({ instance_uuid: uuid, powerState }, 'a stopped server runs; switching it off');
        await driver.powerOff(uuid, 0);
        instance.set('power_state', await this.powerState(uuid));
      }
      if (instance.changes.length === 0) return;
      await records.save(context, instance, [null]);
      tracker.track(instance);
    });
  }

  private async find(context: RequestContext, uuid: string): Promise<Instance | null> {
    try {
      return await this.parts.records.get(context, uuid);
    } catch (error) {
      if (isRemoteError(error, 'InstanceNotFound')) return null;
      throw error;
    }
  }

  private async powerState(uuid: string): Promise<PowerState> {
    try {
      return await this.parts.driver.getPowerState(uuid);
    } catch (error) {
      if (error instanceof InstanceNotFound) return PowerState.NOSTATE;
      throw error;
    }
  }
}
