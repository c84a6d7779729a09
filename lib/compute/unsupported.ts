/**
 * What Nova may ask of a compute service and this one does not do yet. Silence would leave servers hanging in a task state:
 * every such request is refused by name.
 */
import { MigrationPreCheckError, NotImplementedError } from '../exceptions';
import type { RpcHandler } from '../messaging';
import { Instance, expectObject } from '../objects';
import type { InstanceActions } from './instance-actions';

/** Methods of nova-compute's RPC API that are refused (nova/compute/rpcapi.py, 5.13 to 6.5). */
export const UNSUPPORTED_METHODS = [
  'allow_share',
  'attach_volume',
  'check_can_live_migrate_destination',
  'check_can_live_migrate_source',
  'check_instance_shared_storage',
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
  'prep_snapshot_based_resize_at_dest',
  'prep_snapshot_based_resize_at_source',
  'remove_volume_connection',
  'reserve_block_device_name',
  'resize_instance',
  'revert_snapshot_based_resize_at_dest',
  'rollback_live_migration_at_destination',
  'swap_volume',
  'volume_snapshot_create',
  'volume_snapshot_delete',
] as const;

/**
 * Asked by nova-conductor before it moves a server. This failure, and hardly another, has it try the next host, and at the
 * end leave the server as it is rather than in error (nova/conductor/manager.py, _live_migrate).
 */
const PRE_CHECKS: readonly string[] = ['check_can_live_migrate_destination', 'check_can_live_migrate_source'];

/** What a refusal works with. */
export interface RefusalParts {
  readonly actions: InstanceActions;
}

/** A handler for each method that is refused. */
export function refusals(parts: RefusalParts): Map<string, RpcHandler> {
  return new Map(UNSUPPORTED_METHODS.map((method) => [method, refusal(parts, method)]));
}

function refusal(parts: RefusalParts, method: string): RpcHandler {
  if (PRE_CHECKS.includes(method)) {
    const reason = 'Migration pre-check error: prebake-compute does not migrate live servers yet';
    return () => Promise.reject(new MigrationPreCheckError(reason));
  }
  return async (context, args) => {
    const error = new NotImplementedError(`prebake-compute does not support ${method} yet`);
    if (args.instance === undefined || args.instance === null) throw error;
    const instance = expectObject(args.instance, Instance);
    return parts.actions.run(context, instance, method, () => Promise.reject(error));
  };
}
