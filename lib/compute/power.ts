/**
 * Stopping, starting, rebooting and pausing servers (nova/compute/manager.py: stop_instance, start_instance,
 * reboot_instance, pause_instance, unpause_instance).
 */
import { z } from 'zod';
import type { ComputeDriver, InstanceSpec } from '../../drivers/driver';
import { PowerState } from '../../drivers/driver';
import { InstanceNotFound, describeError } from '../exceptions';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import type { Instance, NetworkInfo } from '../objects';
import type { Glance } from '../openstack';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import type { NetworkCache } from './network-cache';
import { forgetShelving, shelvedImage } from './shelving';
import { TaskState, VmState } from './states';
import type { Vtpm } from './vtpm';

/** The operator's options that concern power. */
export interface PowerOptions {
  readonly instanceNameTemplate: string;
  /** How long a guest may take to shut down when asked (`shutdown_timeout`, or image property `os_shutdown_timeout`). */
  readonly shutdownTimeoutMs: number;
  /** How long a guest may take to begin a soft reboot (`[libvirt] wait_soft_reboot_seconds`). */
  readonly softRebootTimeoutMs: number;
}

/** What power operations work with. */
export interface PowerParts {
  readonly driver: ComputeDriver;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly networkCache: NetworkCache;
  readonly glance: Pick<Glance, 'delete'>;
  readonly vtpm: Pick<Vtpm, 'withSecret'>;
  readonly options: PowerOptions;
}

const SOFT = { pending: TaskState.REBOOT_PENDING, started: TaskState.REBOOT_STARTED };
const HARD = { pending: TaskState.REBOOT_PENDING_HARD, started: TaskState.REBOOT_STARTED_HARD };
const rebootTypeSchema = z.enum(['SOFT', 'HARD']);

/** Power operations. */
export class Power {
  constructor(private readonly parts: PowerParts) {}

  async stop(context: RequestContext, instance: Instance, cleanShutdown: boolean): Promise<void> {
    const { actions } = this.parts;
    await actions.run(context, instance, 'stop_instance', async () => {
      // A guest that ended by itself meanwhile is just what was asked for (nova: "Instance is already powered off").
      await this.powerOff(instance, cleanShutdown);
      await this.settle(context, instance, VmState.STOPPED, [TaskState.POWERING_OFF, null]);
    });
  }

  async start(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, driver } = this.parts;
    await actions.run(context, instance, 'start_instance', async (log) => {
      await driver.powerOn(await this.spec(context, instance), await this.network(context, instance));
      // A server that is still here when it is taken from the shelf is simply started.
      await this.deleteShelvedImage(instance, log);
      if (shelvedImage(instance) !== null) forgetShelving(instance);
      await this.settle(context, instance, VmState.ACTIVE, [TaskState.POWERING_ON]);
    });
  }

  /** A soft reboot that the guest ignores becomes a hard one. */
  async reboot(context: RequestContext, instance: Instance, rebootType: unknown): Promise<void> {
    const { actions, driver, records } = this.parts;
    const type = rebootTypeSchema.parse(rebootType);
    const states = type === 'SOFT' ? SOFT : HARD;
    await actions.run(context, instance, 'reboot_instance', async (log) => {
      const expected =
        type === 'SOFT'
          ? [TaskState.REBOOTING, TaskState.REBOOT_PENDING, TaskState.REBOOT_STARTED]
          : [TaskState.REBOOTING_HARD, TaskState.REBOOT_PENDING_HARD, TaskState.REBOOT_STARTED_HARD];
      const network = await this.network(context, instance);
      instance.update({ task_state: states.pending, power_state: await this.powerState(instance) });
      await records.save(context, instance, expected);
      instance.set('task_state', states.started);
      await records.save(context, instance, [states.pending]);
      const spec = await this.spec(context, instance);
      const softly =
        type === 'SOFT' &&
        instance.powerState === PowerState.RUNNING &&
        (await driver.softReboot(spec, this.parts.options.softRebootTimeoutMs));
      if (!softly) {
        if (type === 'SOFT') log.info('the guest did not react to the soft reboot; rebooting hard');
        await driver.hardReboot(spec, network);
      }
      await this.settle(context, instance, VmState.ACTIVE);
    });
  }

  async pause(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, driver } = this.parts;
    await actions.run(context, instance, 'pause_instance', async () => {
      await driver.pause(instance.uuid);
      await this.settle(context, instance, VmState.PAUSED, [TaskState.PAUSING]);
    });
  }

  async unpause(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, driver } = this.parts;
    await actions.run(context, instance, 'unpause_instance', async () => {
      await driver.unpause(instance.uuid);
      await this.settle(context, instance, VmState.ACTIVE, [TaskState.UNPAUSING]);
    });
  }

  /** Switches the guest off: after asking it to shut down, or by pulling the plug (nova: _power_off_instance). */
  async powerOff(instance: Instance, cleanShutdown: boolean): Promise<void> {
    await this.parts.driver.powerOff(instance.uuid, cleanShutdown ? this.shutdownTimeoutMs(instance) : 0);
  }

  /** Deletes the image of a server that is back from the shelf; its loss or survival is no failure of the server. */
  async deleteShelvedImage(instance: Instance, log: Logger): Promise<void> {
    const imageId = shelvedImage(instance);
    if (imageId === null) return;
    await this.parts.glance
      .delete(imageId)
      .catch((error: unknown) => log.warn(`image ${imageId} of the shelf is left: ${describeError(error)}`));
  }

  /** The guest's power state, SHUTDOWN (Nova: NOSTATE) when it has no domain. */
  async powerState(instance: Instance): Promise<PowerState> {
    try {
      return await this.parts.driver.getPowerState(instance.uuid);
    } catch (error) {
      if (error instanceof InstanceNotFound) return PowerState.NOSTATE;
      throw error;
    }
  }

  private async settle(
    context: RequestContext,
    instance: Instance,
    vmState: string,
    expected?: readonly (string | null)[],
  ): Promise<void> {
    instance.update({ power_state: await this.powerState(instance), vm_state: vmState, task_state: null });
    await this.parts.records.save(context, instance, expected);
  }

  /** The network as Neutron has it now; the last known one when Neutron does not answer. */
  private network(context: RequestContext, instance: Instance): Promise<NetworkInfo> {
    return this.parts.networkCache.refresh(context, instance);
  }

  private async spec(context: RequestContext, instance: Instance): Promise<InstanceSpec> {
    const spec = instanceSpec(instance, this.parts.options.instanceNameTemplate);
    return await this.parts.vtpm.withSecret(context, instance, spec);
  }

  private shutdownTimeoutMs(instance: Instance): number {
    const seconds = Number(instance.systemMetadata.image_os_shutdown_timeout ?? Number.NaN);
    return Number.isFinite(seconds) ? seconds * 1000 : this.parts.options.shutdownTimeoutMs;
  }
}
