/**
 * What a stopped or killed service left half done, put in order at the next start
 * (nova/compute/manager.py, _init_instance): each server ends in a state its user can act on.
 */
import type { ComputeDriver } from '../../drivers/driver';
import { PowerState } from '../../drivers/driver';
import { BuildAbortException, describeError } from '../exceptions';
import { type Logger, logAbout } from '../log';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InterruptedOperations } from './interrupted';
import type { InstanceRecords } from './instance-records';
import type { ServerNetworks } from './network';
import type { Power } from './power';
import type { SoftDelete } from './soft-delete';
import { BUILD_TASK_STATES, TaskState, VmState } from './states';
import type { Suspend } from './suspend';
import type { Terminator } from './terminate';
import type { Vtpm } from './vtpm';

/** What recovery works with. */
export interface RecoveryParts {
  readonly driver: Pick<ComputeDriver, 'destroy'>;
  readonly records: InstanceRecords;
  readonly networks: Pick<ServerNetworks, 'deallocate'>;
  readonly power: Pick<Power, 'stop' | 'start' | 'reboot' | 'unpause' | 'powerState'>;
  readonly suspend: Pick<Suspend, 'suspend' | 'resume'>;
  readonly softDelete: Pick<SoftDelete, 'delete' | 'restore'>;
  readonly terminator: Pick<Terminator, 'terminate'>;
  readonly vtpm: Pick<Vtpm, 'validate'>;
  readonly interrupted: Pick<InterruptedOperations, 'recover'>;
  readonly logger: Logger;
  readonly options: {
    readonly instanceNameTemplate: string;
    /** Start again what ran before the host went down (`resume_guests_state_on_host_boot`). */
    readonly resumeGuests: boolean;
  };
}

const REBOOTS: readonly (string | null)[] = [
  TaskState.REBOOTING,
  TaskState.REBOOT_PENDING,
  TaskState.REBOOT_STARTED,
  TaskState.REBOOTING_HARD,
  TaskState.REBOOT_PENDING_HARD,
  TaskState.REBOOT_STARTED_HARD,
];

/** Puts servers in order at the start of the service. */
export class Recovery {
  constructor(private readonly parts: RecoveryParts) {}

  /**
   * Goes through all servers of this host; one that cannot be helped is logged and does not stop the others.
   * @throws InvalidConfiguration when they are not to be had with the options of this host
   */
  async run(context: RequestContext): Promise<void> {
    const instances = await this.parts.records.listOnHost(context);
    this.parts.vtpm.validate(instances);
    for (const instance of instances) {
      const log = logAbout(this.parts.logger, { instanceUuid: instance.uuid });
      try {
        await this.recover(context, instance, log);
      } catch (error) {
        log.error(`could not be put in order after the restart: ${describeError(error)}`);
      }
    }
  }

  private async recover(context: RequestContext, instance: Instance, log: Logger): Promise<void> {
    const { power, suspend, softDelete, terminator, records } = this.parts;
    const { vmState, taskState } = instance;
    if (taskState === TaskState.DELETING || vmState === VmState.DELETED) {
      log.info('a delete was cut short; doing it again');
      await terminator.terminate(context, instance);
      return;
    }
    if (taskState === TaskState.RESTORING) {
      await softDelete.restore(context, instance);
      return;
    }
    if (vmState === VmState.ERROR || vmState === VmState.SOFT_DELETED) return;
    if (await this.parts.interrupted.recover(context, instance, log)) return;
    if (vmState === VmState.BUILDING || BUILD_TASK_STATES.includes(taskState)) {
      await this.failBuild(context, instance, log);
      return;
    }
    const powerState = await power.powerState(instance);
    if (REBOOTS.includes(taskState)) {
      log.info({ taskState }, 'a reboot was cut short');
      if (powerState === PowerState.RUNNING) await this.clear(context, instance, VmState.ACTIVE, powerState);
      else {
        instance.set('task_state', TaskState.REBOOT_PENDING_HARD);
        await records.save(context, instance);
        await power.reboot(context, instance, 'HARD');
      }
    } else if (taskState === TaskState.SUSPENDING) {
      await suspend.suspend(context, instance);
    } else if (taskState === TaskState.RESUMING) {
      await suspend.resume(context, instance);
    } else if (taskState === TaskState.SOFT_DELETING) {
      await softDelete.delete(context, instance);
    } else if (taskState === TaskState.UPDATING_PASSWORD) {
      // The password is gone with the request; whether the guest took it, its user has to find out.
      instance.set('task_state', null);
      await records.save(context, instance);
    } else if (taskState === TaskState.POWERING_OFF) {
      await power.stop(context, instance, true);
    } else if (taskState === TaskState.POWERING_ON) {
      await power.start(context, instance);
    } else if (taskState === TaskState.UNPAUSING && powerState === PowerState.PAUSED) {
      await power.unpause(context, instance);
    } else if (taskState === TaskState.PAUSING || taskState === TaskState.UNPAUSING) {
      const paused = powerState === PowerState.PAUSED;
      await this.clear(context, instance, paused ? VmState.PAUSED : VmState.ACTIVE, powerState);
    } else if (
      this.parts.options.resumeGuests &&
      vmState === VmState.ACTIVE &&
      powerState !== PowerState.RUNNING
    ) {
      log.info('starting the guest again (resume_guests_state_on_host_boot)');
      instance.set('task_state', TaskState.POWERING_ON);
      await records.save(context, instance);
      await power.start(context, instance);
    }
  }

  /** A build cannot be taken up again: its request is gone. What it left goes, and the user is told. */
  private async failBuild(context: RequestContext, instance: Instance, log: Logger): Promise<void> {
    const { driver, networks, records } = this.parts;
    log.warn('a build was cut short by the end of the service');
    await driver.destroy({
      uuid: instance.uuid,
      name: instance.nameFrom(this.parts.options.instanceNameTemplate),
    });
    await networks.deallocate(instance, instance.networkInfo);
    await records.saveNetworkInfo(context, instance, []);
    await records.createFault(
      context,
      instance.uuid,
      new BuildAbortException('the compute service was restarted while it was building the server'),
    );
    instance.update({ vm_state: VmState.ERROR, task_state: null });
    await records.save(context, instance);
  }

  private async clear(
    context: RequestContext,
    instance: Instance,
    vmState: string,
    powerState: PowerState,
  ): Promise<void> {
    instance.update({ task_state: null, vm_state: vmState, power_state: powerState });
    await this.parts.records.save(context, instance);
  }
}
