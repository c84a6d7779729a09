/** Work that is handed back to nova-conductor (nova/conductor/rpcapi.py, ComputeTaskAPI). */
import type { Messaging, RequestContext } from '../messaging';
import { type Flavor, type Instance, serialise } from '../objects';
import type { BuildRequest } from './build-request';

/** Version of build_instances that takes `host_lists`: a list of alternates per server. */
const BUILD_INSTANCES_VERSION = '1.19';

/** Version of migrate_server that takes a `host_list`. */
const MIGRATE_SERVER_VERSION = '1.20';

/** A resize to be tried elsewhere, in conductor's own form where nothing is known of it here. */
export interface ResizeElsewhere {
  readonly instance: Instance;
  readonly flavor: Flavor;
  readonly filterProperties: Readonly<Record<string, unknown>>;
  readonly retry: Readonly<Record<string, unknown>>;
  readonly requestSpec: unknown;
  readonly hostList: unknown;
  readonly cleanShutdown: boolean;
}

/** The compute_task side of nova-conductor. */
export class ConductorTasks {
  constructor(private readonly messaging: Messaging) {}

  /** Has the build tried on the next of its alternates; `reason` becomes part of the fault if none is left. */
  async buildInstances(context: RequestContext, request: BuildRequest, reason: string): Promise<void> {
    const { raw } = request;
    const filterProperties = {
      ...(raw.filter_properties as Record<string, unknown>),
      retry: { ...request.retry, exc: [reason], exc_reason: reason },
    };
    await this.messaging.cast(
      { topic: 'conductor', version: BUILD_INSTANCES_VERSION, namespace: 'compute_task' },
      'build_instances',
      {
        instances: [serialise(request.instance)],
        image: raw.image,
        filter_properties: filterProperties,
        admin_password: raw.admin_password,
        injected_files: raw.injected_files,
        requested_networks: serialise(raw.requested_networks),
        security_groups: raw.security_groups,
        block_device_mapping: serialise(raw.block_device_mapping),
        legacy_bdm: false,
        request_spec: serialise(raw.request_spec),
        host_lists: [serialise(raw.host_list)],
      },
      { context },
    );
  }

  /** Has a resize tried on the next of its alternates; without any the conductor gives the server its state back. */
  async resizeInstance(context: RequestContext, resize: ResizeElsewhere, reason: string): Promise<void> {
    const retry = { ...resize.retry, exc: [reason] };
    await this.messaging.cast(
      { topic: 'conductor', version: MIGRATE_SERVER_VERSION, namespace: 'compute_task' },
      'migrate_server',
      {
        instance: serialise(resize.instance),
        scheduler_hint: { filter_properties: serialise({ ...resize.filterProperties, retry }) },
        live: false,
        rebuild: false,
        flavor: serialise(resize.flavor),
        block_migration: null,
        disk_over_commit: null,
        reservations: null,
        clean_shutdown: resize.cleanShutdown,
        request_spec: serialise(resize.requestSpec),
        host_list: serialise(resize.hostList),
      },
      { context },
    );
  }
}
