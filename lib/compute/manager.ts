/**
 * The RPC face of the service: which method goes where (nova/compute/manager.py, ComputeManager). No work is done here.
 */
import { type Endpoint, type RpcHandler } from '../messaging';
import { Instance, Migration, expectObject } from '../objects';
import type { ComputeDriver } from '../../drivers/driver';
import type { AdminPassword } from './admin-password';
import type { Builder } from './build';
import { cacheImages, type ImageCachingParts } from './cache-images';
import type { Consoles } from './consoles';
import { triggerCrashDump } from './crash-dump';
import type { GuestReports } from './diagnostics';
import type { FixedIps } from './fixed-ips';
import type { InstanceActions } from './instance-actions';
import type { Interfaces } from './interfaces';
import type { NeutronNews } from './neutron-news';
import type { Power } from './power';
import type { Quiesce } from './quiesce';
import type { Rebuilder } from './rebuild';
import type { Rescue } from './rescue';
import type { Resize } from './resize';
import type { ResizeEnd } from './resize-end';
import type { Shelve } from './shelve';
import type { Snapshots } from './snapshot';
import type { ResourceTracker } from './resource-tracker';
import type { SoftDelete } from './soft-delete';
import type { Suspend } from './suspend';
import type { Terminator } from './terminate';
import type { Unshelve } from './unshelve';

/** Highest version of each major that is spoken (5.13: Victoria's clients; 6.1: Zed's; later ones only add methods). */
const VERSIONS = ['6.5', '5.13'] as const;

/** Who does the work. */
export interface ManagerParts {
  readonly driver: ComputeDriver;
  readonly builder: Builder;
  readonly terminator: Terminator;
  readonly power: Power;
  readonly consoles: Consoles;
  readonly imageCaching: ImageCachingParts;
  readonly fixedIps: FixedIps;
  readonly suspend: Suspend;
  readonly softDelete: SoftDelete;
  readonly interfaces: Interfaces;
  readonly guestReports: GuestReports;
  readonly adminPassword: AdminPassword;
  readonly actions: InstanceActions;
  readonly snapshots: Snapshots;
  readonly quiesce: Quiesce;
  readonly rebuilder: Rebuilder;
  readonly rescue: Rescue;
  readonly shelve: Shelve;
  readonly unshelve: Unshelve;
  readonly resize: Resize;
  readonly resizeEnd: ResizeEnd;
  readonly neutronNews: NeutronNews;
  readonly tracker: ResourceTracker;
  /** Handlers of methods that are refused. */
  readonly refusals: ReadonlyMap<string, RpcHandler>;
}

/** The endpoints to serve on topic `compute`. */
export function computeEndpoints(parts: ManagerParts): Endpoint[] {
  const { driver, builder, terminator, power, consoles, neutronNews, tracker } = parts;
  const { suspend, softDelete, interfaces, guestReports, adminPassword } = parts;
  const supported: Record<string, RpcHandler> = {
    build_and_run_instance: (context, args) => builder.buildAndRunInstance(context, args),
    terminate_instance: (context, args) => terminator.terminate(context, instanceOf(args)),
    stop_instance: (context, args) => power.stop(context, instanceOf(args), args.clean_shutdown !== false),
    start_instance: (context, args) => power.start(context, instanceOf(args)),
    reboot_instance: (context, args) => power.reboot(context, instanceOf(args), args.reboot_type),
    pause_instance: (context, args) => power.pause(context, instanceOf(args)),
    unpause_instance: (context, args) => power.unpause(context, instanceOf(args)),
    rebuild_instance: (context, args) => parts.rebuilder.rebuild(context, instanceOf(args), args),
    rescue_instance: (context, args) => parts.rescue.rescue(context, instanceOf(args), args),
    unrescue_instance: (context, args) => parts.rescue.unrescue(context, instanceOf(args)),
    prep_resize: (context, args) => parts.resize.resize(context, instanceOf(args), args),
    confirm_resize: (context, args) => parts.resizeEnd.confirm(context, instanceOf(args), migrationOf(args)),
    revert_resize: (context, args) => parts.resizeEnd.revert(context, instanceOf(args), migrationOf(args)),
    shelve_instance: (context, args) => parts.shelve.shelve(context, instanceOf(args), args),
    shelve_offload_instance: (context, args) => parts.shelve.offload(context, instanceOf(args), args),
    unshelve_instance: (context, args) => parts.unshelve.unshelve(context, instanceOf(args), args),
    add_fixed_ip_to_instance: (context, args) =>
      parts.fixedIps.add(context, instanceOf(args), args.network_id),
    remove_fixed_ip_from_instance: (context, args) =>
      parts.fixedIps.remove(context, instanceOf(args), args.address),
    cache_images: (context, args) => cacheImages(parts.imageCaching, context, args.image_ids),
    snapshot_instance: (context, args) => parts.snapshots.snapshot(context, instanceOf(args), args),
    backup_instance: (context, args) => parts.snapshots.backup(context, instanceOf(args), args),
    quiesce_instance: (context, args) => parts.quiesce.quiesce(context, instanceOf(args)),
    unquiesce_instance: (context, args) => parts.quiesce.unquiesce(context, instanceOf(args)),
    get_console_output: (_context, args) => consoles.output(instanceOf(args), args.tail_length),
    suspend_instance: (context, args) => suspend.suspend(context, instanceOf(args)),
    resume_instance: (context, args) => suspend.resume(context, instanceOf(args)),
    soft_delete_instance: (context, args) => softDelete.delete(context, instanceOf(args)),
    restore_instance: (context, args) => softDelete.restore(context, instanceOf(args)),
    attach_interface: (context, args) => interfaces.attach(context, instanceOf(args), args),
    detach_interface: (context, args) => interfaces.detach(context, instanceOf(args), args.port_id),
    inject_network_info: (context, args) => interfaces.injectNetworkInfo(context, instanceOf(args)),
    // Guests learn both from the metadata service; Nova's libvirt driver does nothing either.
    reset_network: () => Promise.resolve(),
    change_instance_metadata: () => Promise.resolve(),
    get_diagnostics: (_context, args) => guestReports.legacy(instanceOf(args)),
    get_instance_diagnostics: (_context, args) => guestReports.standard(instanceOf(args)),
    set_admin_password: (context, args) => adminPassword.set(context, instanceOf(args), args.new_pass),
    trigger_crash_dump: (context, args) => triggerCrashDump(parts, context, instanceOf(args)),
    get_rdp_console: (_context, args) => consoles.unavailable(args.console_type),
    get_mks_console: (_context, args) => consoles.unavailable(args.console_type),
    get_vnc_console: (context, args) =>
      consoles.connect(context, instanceOf(args), 'novnc', args.console_type),
    get_spice_console: (context, args) =>
      consoles.connect(context, instanceOf(args), 'spice-html5', args.console_type),
    get_serial_console: (context, args) =>
      consoles.connect(context, instanceOf(args), 'serial', args.console_type),
    validate_console_port: (_context, args) =>
      consoles.validatePort(instanceOf(args), args.port, args.console_type),
    external_instance_event: (context, args) =>
      neutronNews.externalInstanceEvent(context, args.instances, args.events),
    set_host_enabled: async (_context, args) => {
      await tracker.setEnabled(args.enabled === true);
      return args.enabled === true ? 'enabled' : 'disabled';
    },
    get_host_uptime: () => driver.getHostUptime(),
  };
  const methods = new Map<string, RpcHandler>([...parts.refusals, ...Object.entries(supported)]);
  const ping: RpcHandler = (_context, args) => Promise.resolve({ service: 'compute', arg: args.arg });
  return [
    { versions: VERSIONS, methods },
    { namespace: 'baseapi', versions: ['1.1'], methods: new Map([['ping', ping]]) },
  ];
}

function instanceOf(args: Readonly<Record<string, unknown>>): Instance {
  return expectObject(args.instance, Instance);
}

function migrationOf(args: Readonly<Record<string, unknown>>): Migration {
  return expectObject(args.migration, Migration);
}
