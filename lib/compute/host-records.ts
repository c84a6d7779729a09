/**
 * The records of this host in Nova's database: Service (is it alive, which version) and ComputeNode (what it has).
 */
import { ComputeNode, type Conductor, NovaObjectList, Service, createObject, expectObject } from '../objects';
import { type RequestContext, isRemoteError } from '../messaging';

const BINARY = 'nova-compute';
const TOPIC = 'compute';
/** Begins the reasons that the service itself gives for being disabled. */
const AUTOMATIC = 'AUTO: ';

/** Reads and writes of this host's own records. */
export class HostRecords {
  constructor(
    private readonly conductor: Conductor,
    private readonly host: string,
  ) {}

  /** The service records of nova-conductor: which release is deployed. */
  async conductors(context: RequestContext): Promise<readonly Service[]> {
    const method = 'get_by_binary';
    const list = await this.conductor.classAction(context, 'ServiceList', method, ['nova-conductor'], {});
    return expectObject(list, NovaObjectList).itemsOf(Service);
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

  /**
   * Takes this host out of scheduling, or back in. What an operator disabled stays so: only a reason of ours is undone
   * (nova/virt/libvirt/driver.py, _set_host_enabled).
   * @param reason why it is disabled, null to enable it
   * @returns whether anything changed
   */
  async setDisabled(context: RequestContext, reason: string | null): Promise<boolean> {
    const args = [this.host, BINARY];
    const found = await this.conductor.classAction(context, 'Service', 'get_by_host_and_binary', args, {});
    const service = expectObject(found, Service);
    if (service.disabled === (reason !== null)) return false;
    if (service.disabled && service.disabledReason?.startsWith(AUTOMATIC) !== true) return false;
    service.set('disabled', reason !== null);
    service.set('disabled_reason', reason === null ? null : `${AUTOMATIC}${reason}`);
    await this.conductor.objectAction(context, service, 'save', [], {});
    return true;
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
