/**
 * What Nova may ask of a compute service and this one does not do yet. Silence would leave servers hanging in a task state:
 * every such request is refused by name, and what its caller had prepared is taken back.
 */
import { NotImplementedError } from '../exceptions';
import type { RequestContext, RpcHandler } from '../messaging';
import { Instance, Migration, expectObject } from '../objects';
import type { Glance, Placement } from '../openstack';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';

/** Methods of nova-compute's RPC API that are refused (nova/compute/rpcapi.py, 5.13 to 6.5). */
export const UNSUPPORTED_METHODS = [
  'add_fixed_ip_to_instance',
  'allow_share',
  'attach_volume',
  'cache_images',
  'check_can_live_migrate_destination',
  'check_can_live_migrate_source',
  'check_instance_shared_storage',
  'confirm_resize',
  'confirm_snapshot_based_resize_at_source',
  'deny_share',
  'detach_volume',
  'drop_move_claim_at_destination',
  'extend_volume',
  'finish_resize',
  'finish_revert_resize',
  'finish_revert_snapshot_based_resize_at_source',
  'finish_snapshot_based_resize_at_dest',
  'host_maintenance_mode',
  'host_power_action',
  'live_migration',
  'live_migration_abort',
  'live_migration_force_complete',
  'post_live_migration_at_destination',
  'power_update',
  'pre_live_migration',
  'prep_resize',
  'prep_snapshot_based_resize_at_dest',
  'prep_snapshot_based_resize_at_source',
  'quiesce_instance',
  'remove_fixed_ip_from_instance',
  'remove_volume_connection',
  'rescue_instance',
  'reserve_block_device_name',
  'resize_instance',
  'revert_resize',
  'revert_snapshot_based_resize_at_dest',
  'rollback_live_migration_at_destination',
  'shelve_instance',
  'shelve_offload_instance',
  'swap_volume',
  'unquiesce_instance',
  'unrescue_instance',
  'unshelve_instance',
  'volume_snapshot_create',
  'volume_snapshot_delete',
] as const;

/** What a refusal works with. */
export interface RefusalParts {
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly placement: Placement;
  readonly glance: Glance;
}

/** A handler for each method that is refused. */
export function refusals(parts: RefusalParts): Map<string, RpcHandler> {
  return new Map(UNSUPPORTED_METHODS.map((method) => [method, refusal(parts, method)]));
}

function refusal(parts: RefusalParts, method: string): RpcHandler {
  return async (context, args) => {
    const error = new NotImplementedError(`prebake-compute does not support ${method} yet`);
    if (args.instance === undefined || args.instance === null) throw error;
    const instance = expectObject(args.instance, Instance);
    return parts.actions.run(context, instance, method, async () => {
      await takeBack(parts, context, method, instance, args);
      throw error;
    });
  };
}

/** Undoes what nova-api or nova-conductor prepared before they asked. */
async function takeBack(
  parts: RefusalParts,
  context: RequestContext,
  method: string,
  instance: Instance,
  args: Readonly<Record<string, unknown>>,
): Promise<void> {
  if (method === 'shelve_instance') {
    // nova-api made the image's record, for us to fill.
    if (typeof args.image_id === 'string') await parts.glance.delete(args.image_id);
  }
  if (method === 'prep_resize' && args.migration !== null && args.migration !== undefined) {
    // The scheduler gave the server the new flavor's resources; the old ones are held by the migration.
    const migration = expectObject(args.migration, Migration);
    await parts.placement.moveAllocations(migration.uuid, instance.uuid);
    migration.set('status', 'error');
    await parts.records.saveMigration(context, migration);
  }
}
