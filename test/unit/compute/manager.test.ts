/** Nova's compute RPC API, method by method: nothing it may send is met with silence. */
import { UNSUPPORTED_METHODS, refusals } from '../../../lib/compute/unsupported';
import { computeEndpoints, type ManagerParts } from '../../../lib/compute/manager';
import { MigrationPreCheckError, NotImplementedError } from '../../../lib/exceptions';
import { RequestContext } from '../../../lib/messaging';

/** Every method that nova/compute/rpcapi.py of Zed (6.1) sends. */
const NOVA_METHODS =
  `add_fixed_ip_to_instance attach_interface attach_volume backup_instance build_and_run_instance cache_images
  check_can_live_migrate_destination check_can_live_migrate_source check_instance_shared_storage confirm_resize
  confirm_snapshot_based_resize_at_source detach_interface detach_volume drop_move_claim_at_destination extend_volume
  external_instance_event finish_resize finish_revert_resize finish_revert_snapshot_based_resize_at_source
  finish_snapshot_based_resize_at_dest get_console_output get_diagnostics get_host_uptime get_instance_diagnostics
  get_mks_console get_rdp_console get_serial_console get_spice_console get_vnc_console host_maintenance_mode
  host_power_action inject_network_info live_migration live_migration_abort live_migration_force_complete pause_instance
  post_live_migration_at_destination pre_live_migration prep_resize prep_snapshot_based_resize_at_dest
  prep_snapshot_based_resize_at_source quiesce_instance reboot_instance rebuild_instance remove_fixed_ip_from_instance
  remove_volume_connection rescue_instance reserve_block_device_name reset_network resize_instance restore_instance
  resume_instance revert_resize revert_snapshot_based_resize_at_dest rollback_live_migration_at_destination
  set_admin_password set_host_enabled shelve_instance shelve_offload_instance snapshot_instance soft_delete_instance
  start_instance stop_instance suspend_instance swap_volume terminate_instance trigger_crash_dump unpause_instance
  unquiesce_instance unrescue_instance unshelve_instance validate_console_port volume_snapshot_create
  volume_snapshot_delete`
    .trim()
    .split(/\s+/);

/** Handlers are looked at, not called: none of the parts is there. */
function endpoints() {
  const absent = {} as Parameters<typeof refusals>[0];
  return computeEndpoints({ refusals: refusals(absent) } as unknown as ManagerParts);
}

test('every method that Nova sends has a handler', () => {
  const methods = endpoints().find((endpoint) => endpoint.namespace === undefined)?.methods;
  expect(NOVA_METHODS.filter((method) => methods?.has(method) !== true)).toEqual([]);
});

test('the versions of Victoria to the newest are accepted', () => {
  expect(endpoints()[0]?.versions).toEqual(['6.5', '5.13']);
});

test.each(['check_can_live_migrate_destination', 'check_can_live_migrate_source'])(
  '%s is refused so that the server stays as it is',
  async (method) => {
    const handler = refusals({} as Parameters<typeof refusals>[0]).get(method);
    const refused = handler?.(RequestContext.admin(), {}, { kind: 'call', method, version: '6.0' });
    await expect(refused).rejects.toThrow(MigrationPreCheckError);
  },
);

test('what is refused without a server is refused by name', async () => {
  const handlers = refusals({} as Parameters<typeof refusals>[0]);
  for (const method of UNSUPPORTED_METHODS.filter((name) => !name.startsWith('check_can_live_migrate'))) {
    const refused = handlers.get(method)?.(
      RequestContext.admin(),
      {},
      { kind: 'call', method, version: '6.0' },
    );
    await expect(refused).rejects.toThrow(NotImplementedError);
    await expect(refused).rejects.toThrow(method);
  }
});
