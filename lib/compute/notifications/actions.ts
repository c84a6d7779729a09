/** What the operations on servers are called in notifications: by their RPC method, Nova's words for them. */

/** How an operation is told of. */
export interface ActionName {
  /** In versioned notifications: `instance.<name>.start`. */
  readonly name: string;
  /** In legacy ones: `compute.instance.<legacy>.start`; null for operations that these never told of. */
  readonly legacy: string | null;
  /** Whether a failure is told of as well. */
  readonly error: boolean;
  /** Whether it ends one kind of use and begins another, so that the use of the period up to now is told of first. */
  readonly usage: boolean;
}

const named = (
  name: string,
  options: { legacy?: string | null; error?: boolean; usage?: boolean } = {},
): ActionName => ({
  name,
  legacy: options.legacy === undefined ? name : options.legacy,
  error: options.error ?? false,
  usage: options.usage ?? false,
});

/** By RPC method; what is not here is not told of. */
export const ACTION_NAMES: Readonly<Record<string, ActionName>> = {
  build_and_run_instance: named('create', { error: true }),
  terminate_instance: named('delete'),
  stop_instance: named('power_off'),
  start_instance: named('power_on'),
  reboot_instance: named('reboot', { error: true }),
  pause_instance: named('pause'),
  unpause_instance: named('unpause'),
  suspend_instance: named('suspend'),
  resume_instance: named('resume'),
  soft_delete_instance: named('soft_delete'),
  restore_instance: named('restore'),
  rebuild_instance: named('rebuild', { error: true, usage: true }),
  snapshot_instance: named('snapshot'),
  backup_instance: named('snapshot'),
  rescue_instance: named('rescue', { usage: true }),
  unrescue_instance: named('unrescue'),
  shelve_instance: named('shelve', { usage: true }),
  shelve_offload_instance: named('shelve_offload'),
  unshelve_instance: named('unshelve'),
  trigger_crash_dump: named('trigger_crash_dump'),
  attach_interface: named('interface_attach', { legacy: null, error: true }),
  detach_interface: named('interface_detach', { legacy: null }),
  prep_resize: named('resize_prep', { legacy: 'resize.prep', usage: true }),
  resize_instance: named('resize', { error: true }),
  finish_resize: named('resize_finish', { legacy: 'finish_resize' }),
  confirm_resize: named('resize_confirm', { legacy: 'resize.confirm' }),
  revert_resize: named('resize_revert', { legacy: 'resize.revert', usage: true }),
};
