/** What a change of its flavor does to a server's record (nova/compute/manager.py: _set_instance_info; MigrationContext). */
import { type Flavor, type Instance, type Migration, MigrationContext, createObject } from '../objects';
import { VmState } from './states';

/** Where Nova keeps what a server was before it was resized. */
const OLD_STATE = 'old_vm_state';

/** Notes what it is now and what it is to become. */
export function noteChange(instance: Instance, flavor: Flavor): void {
  const noted = { ...instance.systemMetadata, [OLD_STATE]: instance.vmState };
  instance.update({ old_flavor: null, new_flavor: flavor, system_metadata: noted });
}

/** Forgets what it was. */
export function forgetChange(instance: Instance): void {
  const kept = Object.entries(instance.systemMetadata).filter(([key]) => key !== OLD_STATE);
  instance.update({ old_flavor: null, new_flavor: null, system_metadata: Object.fromEntries(kept) });
}

/** Whether it ran before the change, and is to run after it. */
export function ranBefore(instance: Instance): boolean {
  return instance.systemMetadata[OLD_STATE] !== VmState.STOPPED;
}

/** The flavor and what Nova repeats of it in the server's own record (nova: _set_instance_info). */
export function takeFlavor(instance: Instance, flavor: Flavor): void {
  instance.update({
    instance_type_id: flavor.id,
    memory_mb: flavor.memoryMb,
    vcpus: flavor.vcpus,
    root_gb: flavor.rootGb,
    ephemeral_gb: flavor.ephemeralGb,
    flavor,
  });
}

/** Neither NUMA nor PCI devices change here. */
export function migrationContext(instance: Instance, migration: Migration): MigrationContext {
  return createObject(MigrationContext, {
    instance_uuid: instance.uuid,
    migration_id: migration.id,
    old_numa_topology: null,
    new_numa_topology: null,
    old_pci_devices: null,
    new_pci_devices: null,
    old_pci_requests: null,
    new_pci_requests: null,
    old_resources: null,
    new_resources: null,
  });
}
