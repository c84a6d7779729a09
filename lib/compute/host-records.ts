/**
 * The records of this host in Nova's database: Service (is it alive, which version) and ComputeNode (what it has).
 */
import { ComputeNode, type Conductor, NovaObjectList, Service, createObject, expectObject } from '../objects';
import { type RequestContext, isRemoteError } from '../messaging';

const BINARY = 'nova-compute';
const TOPIC = 'compute';

/** Reads and writes of this host's own records. */
export class HostRecords {
  constructor(
    private readonly conductor: Conductor,
    private readonly host: string,
  ) {}

  /** Versions in the service records of nova-conductor: which release is deployed. */
  async conductorVersions(context: RequestContext): Promise<number[]> {
    const list = await this.conductor.classAction(
      context,
      'ServiceList',
      'get_by_binary',
      ['nova-conductor'],
      {},
    );
    return expectObject(list, NovaObjectList)
      .itemsOf(Service)
      .map((service) => service.version);
  }

  /** Finds this host's Service record, or makes it. */
  async ensureService(context: RequestContext, version: number): Promise<Service> {
    const found = await this.conductor.classAction(
      context,
      'Service',
      'get_by_host_and_binary',
      [this.host, BINARY],
      {},
    );
    if (found instanceof Service) {
      found.set('version', version);
      await this.conductor.objectAction(context, found, 'save', [], {});
      return found;
    }
    const service = createObject(Service, {
      host: this.host,
      binary: BINARY,
      topic: TOPIC,
      report_count: 0,
      version,
    });
    await this.conductor.objectAction(context, service, 'create', [], {});
    return service;
  }

  /** One heartbeat: conductor stamps `last_seen_up` itself. */
  async reportState(context: RequestContext, service: Service): Promise<void> {
    service.set('report_count', service.reportCount + 1);
    await this.conductor.objectAction(context, service, 'save', [], {});
  }

  async findComputeNode(context: RequestContext, node: string): Promise<ComputeNode | null> {
    try {
      const found = await this.conductor.classAction(
        context,
        'ComputeNode',
        'get_by_host_and_nodename',
        [this.host, node],
        {},
      );
      return found instanceof ComputeNode ? found : null;
    } catch (error) {
      if (isRemoteError(error, 'ComputeHostNotFound')) return null;
      throw error;
    }
  }

  /** Conductor gives the new record its id and uuid; the uuid is also that of the Placement provider. */
  async createComputeNode(context: RequestContext, node: ComputeNode): Promise<void> {
    await this.conductor.objectAction(context, node, 'create', [], {});
  }

  async saveComputeNode(context: RequestContext, node: ComputeNode): Promise<void> {
    if (node.changes.length > 0) await this.conductor.objectAction(context, node, 'save', [], {});
  }
}
