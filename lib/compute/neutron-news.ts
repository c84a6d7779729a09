/**
 * `external_instance_event`: what Neutron (through nova-api) reports about servers of this host
 * (nova/compute/manager.py, external_instance_event).
 */
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { type RequestContext, isRemoteError } from '../messaging';
import { Instance, InstanceExternalEvent, expectObject } from '../objects';
import type { ExternalEvents } from './external-events';
import type { InstanceRecords } from './instance-records';
import type { Interfaces } from './interfaces';
import type { NetworkCache } from './network-cache';

/** Takes in events. */
export class NeutronNews {
  constructor(
    private readonly events: ExternalEvents,
    private readonly cache: NetworkCache,
    private readonly interfaces: Pick<Interfaces, 'portDeleted'>,
    private readonly records: InstanceRecords,
    private readonly logger: Logger,
  ) {}

  /** Handles the RPC; an event that cannot be handled, or not yet, does not keep the others from being. */
  async externalInstanceEvent(context: RequestContext, instances: unknown, events: unknown): Promise<void> {
    const known = new Map(
      list(instances)
        .map((item) => expectObject(item, Instance))
        .map((i) => [i.uuid, i]),
    );
    const told = list(events).map((item) => expectObject(item, InstanceExternalEvent));
    await Promise.all(
      told.map(async (event) => {
        const instance = known.get(event.instanceUuid);
        if (instance === undefined) return;
        try {
          await this.handle(context, instance, event);
        } catch (error) {
          if (isRemoteError(error, 'InstanceNotFound')) return;
          this.logger.warn(
            { instance_uuid: instance.uuid, event: event.name },
            `event could not be handled: ${describeError(error)}`,
          );
        }
      }),
    );
  }

  private async handle(
    context: RequestContext,
    instance: Instance,
    event: InstanceExternalEvent,
  ): Promise<void> {
    const tag = event.tag ?? '';
    const awaited = this.events.deliver(instance.uuid, event.name, tag, event.status);
    this.logger.debug({ instance_uuid: instance.uuid, event: event.name, tag, awaited }, 'external event');
    if (event.name === 'network-vif-deleted') {
      await this.interfaces.portDeleted(context, instance.uuid, tag);
    } else if (event.name === 'network-changed') {
      // The event's own copy of the server has no network; and while it is being built the builder writes it.
      const current = await this.records.get(context, instance.uuid);
      if (current.taskState === null) await this.cache.refresh(context, current);
    }
  }
}

function list(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new TypeError('expected a list');
  return value;
}
