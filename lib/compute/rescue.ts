/**
 * Rescuing servers: booted from another image to be repaired, and from their own disk again
 * (nova/compute/manager.py: rescue_instance, unrescue_instance).
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { ComputeDriver } from '../../drivers/driver';
import { InstanceNotRescuable, describeError } from '../exceptions';
import type { RequestContext } from '../messaging';
import { type Instance, novaTime } from '../objects';
import type { Glance } from '../openstack';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import { buildIdentity } from './metadata';
import type { NetworkCache } from './network-cache';
import type { Power } from './power';
import { TaskState, VmState } from './states';

/** What rescues work with. */
export interface RescueParts {
  readonly driver: Pick<ComputeDriver, 'rescue' | 'unrescue'>;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly networkCache: NetworkCache;
  readonly glance: Pick<Glance, 'show'>;
  readonly power: Power;
  readonly options: { readonly instanceNameTemplate: string; readonly forceConfigDrive: boolean };
}

const argsSchema = z.looseObject({
  rescue_password: z.string().nullish(),
  rescue_image_ref: z.string().nullish(),
  clean_shutdown: z.boolean().default(true),
});
const PASSWORD_BYTES = 9;

/** Rescues servers. */
export class Rescue {
  constructor(private readonly parts: RescueParts) {}

  /** A failure leaves the server in ERROR with its disk untouched; it may be rescued again, or rebooted. */
  async rescue(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { actions, driver, records, networkCache, glance, power, options } = this.parts;
    await actions.run(context, instance, 'rescue_instance', async (_log, signal) => {
      const request = argsSchema.parse(args);
      const network = await networkCache.refresh(context, instance);
      const image = await glance.show(rescueImage(instance, request.rescue_image_ref), signal);
      try {
        await power.powerOff(instance, request.clean_shutdown);
        await driver.rescue({
          instance: instanceSpec(instance, options.instanceNameTemplate),
          image: { ...image, trust: await records.imageTrust(context, instance) },
          network,
          identity: buildIdentity({
            instance,
            networkInfo: network,
            adminPassword: request.rescue_password ?? randomBytes(PASSWORD_BYTES).toString('base64url'),
            injectedFiles: [],
            forceConfigDrive: options.forceConfigDrive,
          }),
          signal,
        });
      } catch (error) {
        instance.set('vm_state', VmState.ERROR);
        throw new InstanceNotRescuable(
          `Instance ${instance.uuid} cannot be rescued: Driver Error: ${describeError(error)}`,
          { cause: error },
        );
      }
      instance.update({
        vm_state: VmState.RESCUED,
        task_state: null,
        power_state: await power.powerState(instance),
        launched_at: novaTime(new Date()),
      });
      await records.save(context, instance, [TaskState.RESCUING]);
    });
  }

  async unrescue(context: RequestContext, instance: Instance): Promise<void> {
    const { actions, driver, records, networkCache, power, options } = this.parts;
    await actions.run(context, instance, 'unrescue_instance', async () => {
      const network = await networkCache.refresh(context, instance);
      try {
        await driver.unrescue(instanceSpec(instance, options.instanceNameTemplate), network);
      } catch (error) {
        instance.set('vm_state', VmState.ERROR);
        throw error;
      }
      instance.update({
        vm_state: VmState.ACTIVE,
        task_state: null,
        power_state: await power.powerState(instance),
      });
      await records.save(context, instance, [TaskState.UNRESCUING]);
    });
  }
}

/** The image asked for, else the one that the server's own image was made from, else its own. */
function rescueImage(instance: Instance, asked: string | null | undefined): string {
  if (asked !== null && asked !== undefined && asked !== '') return asked;
  return instance.systemMetadata.image_base_image_ref ?? instance.imageRef;
}
