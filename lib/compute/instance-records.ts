/**
 * What a compute service reads and writes of servers in Nova's database, through nova-conductor: one method per question.
 * Knows no hypervisor and takes no decisions.
 */
import {
  BlockDeviceMapping,
  type Conductor,
  ConsoleAuthToken,
  Instance,
  InstanceFault,
  InstanceInfoCache,
  Migration,
  type NetworkInfo,
  NovaObjectList,
  VirtualInterface,
  createObject,
  expectObject,
  novaTime,
  serialiseNetworkInfo,
} from '../objects';
import type { ImageTrust } from '../../drivers/driver';
import type { RequestContext } from '../messaging';
import { describeError } from '../exceptions';
import { faultFields } from './faults';

/** What nova-compute loads with an instance before it works on it. */
const INSTANCE_ATTRIBUTES = [
  'flavor',
  'info_cache',
  'system_metadata',
  'metadata',
  'keypairs',
  'security_groups',
];

/** Reads and writes of servers. Every method rejects with RemoteError or MessagingTimeout of `lib/messaging`. */
export class InstanceRecords {
  constructor(
    private readonly conductor: Conductor,
    private readonly host: string,
  ) {}

  /** Writes the changed fields; with `expectedTaskState` only if the database still has one of those. */
  async save(
    context: RequestContext,
    instance: Instance,
    expectedTaskState?: readonly (string | null)[],
  ): Promise<void> {
    const kwargs = expectedTaskState === undefined ? {} : { expected_task_state: expectedTaskState };
    await this.conductor.objectAction(context, instance, 'save', [], kwargs);
  }

  async get(context: RequestContext, uuid: string): Promise<Instance> {
    const found = await this.conductor.classAction(context, 'Instance', 'get_by_uuid', [uuid], {
      expected_attrs: INSTANCE_ATTRIBUTES,
    });
    return expectObject(found, Instance);
  }

  /** Loads what nova-api left out of the copy it sent with a request. */
  async complete(context: RequestContext, instance: Instance): Promise<void> {
    if (INSTANCE_ATTRIBUTES.every((attribute) => instance.has(attribute))) return;
    instance.completeFrom(await this.get(context, instance.uuid));
  }

  /** What the server asks of the signatures of its images; loaded when nova-api left it out. */
  async imageTrust(context: RequestContext, instance: Instance): Promise<ImageTrust> {
    if (instance.trustedCertificateIds === undefined) {
      const method = 'get_by_instance_uuid';
      const found = await this.conductor.classAction(context, 'TrustedCerts', method, [instance.uuid], {});
      instance.load('trusted_certs', found);
    }
    return { certificateIds: instance.trustedCertificateIds ?? [], requester: context };
  }

  async listOnHost(context: RequestContext): Promise<readonly Instance[]> {
    const list = await this.conductor.classAction(context, 'InstanceList', 'get_by_host', [this.host], {
      expected_attrs: INSTANCE_ATTRIBUTES,
    });
    return expectObject(list, NovaObjectList).itemsOf(Instance);
  }

  /** The servers that count for the resource tracker: those of this host and node. */
  async listOnNode(context: RequestContext, node: string): Promise<readonly Instance[]> {
    const list = await this.conductor.classAction(
      context,
      'InstanceList',
      'get_by_host_and_node',
      [this.host, node],
      { expected_attrs: ['flavor', 'system_metadata'] },
    );
    return expectObject(list, NovaObjectList).itemsOf(Instance);
  }

  /** The servers that fit, by the names of Nova's filters; deleted ones with a context that may see them. */
  async listByFilters(
    context: RequestContext,
    filters: Readonly<Record<string, unknown>>,
  ): Promise<readonly Instance[]> {
    const list = await this.conductor.classAction(context, 'InstanceList', 'get_by_filters', [filters], {
      expected_attrs: INSTANCE_ATTRIBUTES,
    });
    return expectObject(list, NovaObjectList).itemsOf(Instance);
  }

  /** The servers that were on this host at some time of a period, deleted ones too. */
  async listActiveBetween(context: RequestContext, begin: Date, end: Date): Promise<readonly Instance[]> {
    const method = '_get_active_by_window_joined';
    const list = await this.conductor.classAction(context, 'InstanceList', method, [novaTime(begin)], {
      end: novaTime(end),
      host: this.host,
      expected_attrs: ['system_metadata', 'info_cache', 'metadata', 'flavor'],
    });
    return expectObject(list, NovaObjectList).itemsOf(Instance);
  }

  /** Begins an operation that nobody asked for in the server's action log. */
  async startAction(context: RequestContext, uuid: string, action: string): Promise<void> {
    const args = [uuid, action];
    await this.conductor.classAction(context, 'InstanceAction', 'action_start', args, { want_result: false });
  }

  /** Marks the record deleted: the last act of a delete. */
  async destroy(context: RequestContext, instance: Instance): Promise<void> {
    await this.conductor.objectAction(context, instance, 'destroy', [], {});
  }

  async blockDeviceMappings(context: RequestContext, uuid: string): Promise<readonly BlockDeviceMapping[]> {
    const list = await this.conductor.classAction(
      context,
      'BlockDeviceMappingList',
      'get_by_instance_uuid',
      [uuid],
      {},
    );
    return expectObject(list, NovaObjectList).itemsOf(BlockDeviceMapping);
  }

  async saveBlockDeviceMapping(context: RequestContext, mapping: BlockDeviceMapping): Promise<void> {
    await this.conductor.objectAction(context, mapping, 'save', [], {});
  }

  async destroyBlockDeviceMapping(context: RequestContext, mapping: BlockDeviceMapping): Promise<void> {
    await this.conductor.objectAction(context, mapping, 'destroy', [], {});
  }

  async saveMigration(context: RequestContext, migration: Migration): Promise<void> {
    await this.conductor.objectAction(context, migration, 'save', [], {});
  }

  /** A server's moves that have one of these statuses, the latest first. */
  async migrations(
    context: RequestContext,
    instanceUuid: string,
    statuses: readonly string[],
  ): Promise<readonly Migration[]> {
    const filters = { instance_uuid: instanceUuid, status: statuses };
    const list = await this.conductor.classAction(context, 'MigrationList', 'get_by_filters', [filters], {});
    const found = expectObject(list, NovaObjectList).itemsOf(Migration);
    return [...found].sort((a, b) => b.id - a.id);
  }

  /** Moves to this host that have waited for their confirmation longer than this. */
  async unconfirmedMigrations(context: RequestContext, windowS: number): Promise<readonly Migration[]> {
    const method = 'get_unconfirmed_by_dest_compute';
    const list = await this.conductor.classAction(context, 'MigrationList', method, [windowS, this.host], {});
    return expectObject(list, NovaObjectList).itemsOf(Migration);
  }

  async dropMigrationContext(context: RequestContext, instance: Instance): Promise<void> {
    await this.conductor.objectAction(context, instance, 'drop_migration_context', [], {});
  }

  /** Opens an entry of the server's action log (`openstack server event show`). */
  async startEvent(context: RequestContext, uuid: string, event: string): Promise<void> {
    await this.conductor.classAction(context, 'InstanceActionEvent', 'event_start', [uuid, event], {
      want_result: false,
      host: this.host,
    });
  }

  /** Closes the entry; with an error it shows as failed. */
  async finishEvent(context: RequestContext, uuid: string, event: string, error: unknown): Promise<void> {
    const failed = error !== null && error !== undefined;
    await this.conductor.classAction(
      context,
      'InstanceActionEvent',
      'event_finish_with_failure',
      [uuid, event],
      {
        exc_val: failed ? describeError(error) : null,
        exc_tb: failed && error instanceof Error ? (error.stack ?? null) : null,
        want_result: false,
      },
    );
  }

  /** Records why something failed, for `openstack server show`. */
  async createFault(context: RequestContext, uuid: string, error: unknown): Promise<void> {
    const fault = createObject(InstanceFault, {
      instance_uuid: uuid,
      host: this.host,
      ...faultFields(error),
    });
    await this.conductor.objectAction(context, fault, 'create', [], {});
  }

  /** Nova's cache of the server's network, which its API and metadata service show. */
  async saveNetworkInfo(
    context: RequestContext,
    instance: Instance,
    networkInfo: NetworkInfo,
  ): Promise<void> {
    const text = serialiseNetworkInfo(networkInfo);
    const cache = createObject(InstanceInfoCache, { instance_uuid: instance.uuid, network_info: text });
    await this.conductor.objectAction(context, cache, 'save', [], {});
    const own = instance.infoCache;
    if (own !== null) {
      own.networkInfo = networkInfo;
      own.resetChanges();
    }
  }

  /** One record per NIC; device tags and the metadata service find it by `address/port`. */
  async createVirtualInterfaces(
    context: RequestContext,
    uuid: string,
    networkInfo: NetworkInfo,
    tags: ReadonlyMap<string, string | null>,
  ): Promise<void> {
    for (const vif of networkInfo) {
      const record = createObject(VirtualInterface, {
        address: `${vif.address}/${vif.id}`,
        instance_uuid: uuid,
        uuid: vif.id,
        tag: tags.get(vif.id) ?? null,
      });
      await this.conductor.objectAction(context, record, 'create', [], {});
    }
  }

  async virtualInterfaces(context: RequestContext, uuid: string): Promise<readonly VirtualInterface[]> {
    const list = await this.conductor.classAction(
      context,
      'VirtualInterfaceList',
      'get_by_instance_uuid',
      [uuid],
      {},
    );
    return expectObject(list, NovaObjectList).itemsOf(VirtualInterface);
  }

  /** Removes the record of one NIC, if there is one. */
  async deleteVirtualInterface(context: RequestContext, portId: string): Promise<void> {
    const found = await this.conductor.classAction(context, 'VirtualInterface', 'get_by_uuid', [portId], {});
    if (found === null) return;
    await this.conductor.objectAction(context, expectObject(found, VirtualInterface), 'destroy', [], {});
  }

  async deleteVirtualInterfaces(context: RequestContext, uuid: string): Promise<void> {
    await this.conductor.classAction(context, 'VirtualInterface', 'delete_by_instance_uuid', [uuid], {});
  }

  /** Has conductor make and store a console token valid for `ttlS` seconds; returns the token's record. */
  async authorizeConsole(
    context: RequestContext,
    fields: Readonly<Record<string, string | number | null>>,
    ttlS: number,
  ): Promise<ConsoleAuthToken> {
    const token = createObject(ConsoleAuthToken, fields);
    await this.conductor.objectAction(context, token, 'authorize', [ttlS], {});
    return token;
  }

  /** Forgets the tokens of this host's consoles that are no longer good. */
  async cleanExpiredConsoles(context: RequestContext): Promise<void> {
    const method = 'clean_expired_console_auths_for_host';
    await this.conductor.classAction(context, 'ConsoleAuthToken', method, [this.host], {});
  }

  async cleanConsoles(context: RequestContext, uuid: string): Promise<void> {
    await this.conductor.classAction(
      context,
      'ConsoleAuthToken',
      'clean_console_auths_for_instance',
      [uuid],
      {},
    );
  }
}
