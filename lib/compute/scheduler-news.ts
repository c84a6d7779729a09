/**
 * What the schedulers like to hear of this host's servers (nova/scheduler/rpcapi.py 4.2, casts to all schedulers): their
 * affinity filters work on it. Losing such a message is made good by the next `sync_instance_info`.
 */
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import type { Messaging, RequestContext } from '../messaging';
import { type Instance, NovaObjectList, createObject, serialise } from '../objects';

class InstanceList extends NovaObjectList {
  static readonly className = 'InstanceList';
}

const TARGET = { topic: 'scheduler', version: '4.2' };

/** Tells the schedulers. No method rejects. */
export class SchedulerNews {
  constructor(
    private readonly messaging: Messaging,
    private readonly host: string,
    private readonly logger: Logger,
  ) {}

  async instanceUpdated(context: RequestContext, instance: Instance): Promise<void> {
    const list = createObject(InstanceList, { objects: [instance] });
    await this.tell(context, 'update_instance_info', {
      host_name: this.host,
      instance_info: serialise(list),
    });
  }

  async instanceDeleted(context: RequestContext, uuid: string): Promise<void> {
    await this.tell(context, 'delete_instance_info', { host_name: this.host, instance_uuid: uuid });
  }

  async sync(context: RequestContext, uuids: readonly string[]): Promise<void> {
    await this.tell(context, 'sync_instance_info', { host_name: this.host, instance_uuids: uuids });
  }

  private async tell(context: RequestContext, method: string, args: Record<string, unknown>): Promise<void> {
    try {
      await this.messaging.fanout(TARGET, method, args, { context });
    } catch (error) {
      this.logger.warn(`could not tell the schedulers (${method}): ${describeError(error)}`);
    }
  }
}
