/** Making a guest dump its memory by a non-maskable interrupt (nova/compute/manager.py, trigger_crash_dump). */
import type { ComputeDriver } from '../../drivers/driver';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceActions } from './instance-actions';

/** What becomes of it is up to the guest, so no state of the server changes. @throws as the driver */
export async function triggerCrashDump(
  parts: { readonly driver: ComputeDriver; readonly actions: InstanceActions },
  context: RequestContext,
  instance: Instance,
): Promise<void> {
  await parts.actions.run(context, instance, 'trigger_crash_dump', () =>
    parts.driver.triggerCrashDump(instance.uuid),
  );
}
