/**
 * Setting the password of a running guest's administrator (nova/compute/manager.py, set_admin_password). The password
 * itself never gets into an error, a fault or a log.
 */
import { z } from 'zod';
import { type ComputeDriver, PowerState } from '../../drivers/driver';
import { InstancePasswordSetFailed, NotImplementedError, QemuGuestAgentNotEnabled } from '../exceptions';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import { sealedPassword } from './password-seal';
import type { Power } from './power';
import { TaskState } from './states';

/** What setting passwords works with. */
export interface AdminPasswordParts {
  readonly driver: ComputeDriver;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly power: Power;
  readonly instanceNameTemplate: string;
}

/** Sets passwords. */
export class AdminPassword {
  constructor(private readonly parts: AdminPasswordParts) {}

  /** @throws InstancePasswordSetFailed, QemuGuestAgentNotEnabled, NotImplementedError */
  async set(context: RequestContext, instance: Instance, newPassword: unknown): Promise<void> {
    const { actions, driver, power, records, instanceNameTemplate } = this.parts;
    await actions.run(context, instance, 'set_admin_password', async (log) => {
      if ((await power.powerState(instance)) !== PowerState.RUNNING) {
        throw failed(instance, `instance ${instance.uuid} is not running`);
      }
      const password = z.string().parse(newPassword);
      try {
        await driver.setAdminPassword(instanceSpec(instance, instanceNameTemplate), password);
      } catch (error) {
        if (error instanceof QemuGuestAgentNotEnabled) throw error;
        if (error instanceof NotImplementedError) {
          throw new NotImplementedError(
            'set_admin_password is not implemented by this driver or guest instance.',
            { cause: error },
          );
        }
        log.error({ err: error }, 'the guest did not take the password');
        throw failed(instance, 'error setting admin password');
      }
      // Only whoever has the private key can read it there.
      const sealed = sealedPassword(instance.keyData, password);
      if (sealed !== null) instance.set('system_metadata', { ...instance.systemMetadata, ...sealed });
      instance.set('task_state', null);
      await records.save(context, instance, [TaskState.UPDATING_PASSWORD]);
    });
  }
}

function failed(instance: Instance, reason: string): InstancePasswordSetFailed {
  return new InstancePasswordSetFailed(`Failed to set admin password on ${instance.uuid} because ${reason}`);
}
