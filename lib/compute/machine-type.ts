/**
 * Every server's machine type is kept with it, so that a host whose default changes does not change servers
 * (nova/virt/libvirt/driver.py, _register_undefined_instance_details; `nova-status upgrade check` asks for it).
 */
import { DEFAULT_MACHINE_TYPE } from '../../drivers/driver';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceRecords } from './instance-records';
import { VmState } from './states';

const KEY = 'image_hw_machine_type';

/** Notes the machine type with a server whose image does not name one. */
export function noteMachineType(instance: Instance): void {
  if ((instance.systemMetadata[KEY] ?? null) !== null) return;
  instance.set('system_metadata', { ...instance.systemMetadata, [KEY]: DEFAULT_MACHINE_TYPE });
}

/** Notes it with the servers of this host that were built before it was kept. */
export async function noteMachineTypes(
  context: RequestContext,
  records: Pick<InstanceRecords, 'listOnHost' | 'save'>,
): Promise<void> {
  for (const instance of await records.listOnHost(context)) {
    if (instance.vmState === VmState.BUILDING || instance.vmState === VmState.DELETED) continue;
    noteMachineType(instance);
    if (instance.changes.includes('system_metadata')) await records.save(context, instance);
  }
}
