/**
 * Domain events of libvirt by name, from the raw callbacks of one connection to listeners that outlive it.
 */
import type { Logger } from 'pino';
import { binding, type Pointer } from './binding';
import type { Lane } from './lane';

/** virDomainEventType in order of its numbers. */
const LIFECYCLE = [
  'defined',
  'undefined',
  'started',
  'suspended',
  'resumed',
  'stopped',
  'shutdown',
  'pmsuspended',
  'crashed',
] as const;

/** virDomainEventID */
const EVENT_LIFECYCLE = 0;
const EVENT_DEVICE_REMOVED = 15;
/** VIR_UUID_STRING_BUFLEN */
const UUID_TEXT_BYTES = 37;

/** What happened to a domain. `detail` is libvirt's reason, by event (virDomainEventStoppedDetailType ...). */
export type DomainEvent =
  | { readonly kind: (typeof LIFECYCLE)[number]; readonly uuid: string; readonly detail: number }
  | { readonly kind: 'device-removed'; readonly uuid: string; readonly alias: string };

/** The listeners to domain events, and the native callbacks that feed them. */
export class DomainEvents {
  private readonly listeners = new Set<(event: DomainEvent) => void>();
  private readonly lifecycleHandler: bigint;
  private readonly deviceHandler: bigint;

  constructor(private readonly logger: Logger) {
    const api = binding();
    this.lifecycleHandler = api.registerLifecycleHandler((_connection, domain, event, detail) => {
      const kind = LIFECYCLE[event];
      if (kind !== undefined) this.emit({ kind, uuid: uuidOf(domain), detail });
      return 0;
    });
    this.deviceHandler = api.registerDeviceHandler((_connection, domain, alias) =>
      this.emit({ kind: 'device-removed', uuid: uuidOf(domain), alias }),
    );
  }

  /** Hears every event of every domain until the returned function is called. */
  listen(listener: (event: DomainEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Asks the daemon behind `lane` for events; returns how to stop them. */
  async subscribe(lane: Lane): Promise<() => Promise<void>> {
    const api = binding();
    const ids: number[] = [];
    for (const [eventId, handler] of [
      [EVENT_LIFECYCLE, this.lifecycleHandler],
      [EVENT_DEVICE_REMOVED, this.deviceHandler],
    ] as const) {
      const registering = api.virConnectDomainEventRegisterAny(
        lane.connection,
        null,
        eventId,
        handler,
        null,
        null,
      );
      ids.push(await lane.count('virConnectDomainEventRegisterAny', registering));
    }
    return async () => {
      for (const id of ids) await api.virConnectDomainEventDeregisterAny(lane.connection, id);
    };
  }

  /** Frees the callbacks; no subscription may be left. */
  dispose(): void {
    this.listeners.clear();
    binding().unregisterHandler(this.lifecycleHandler);
    binding().unregisterHandler(this.deviceHandler);
  }

  private emit(event: DomainEvent): void {
    for (const listener of this.listeners) {
      try {
        listener(event);
      } catch (error) {
        this.logger.error({ err: error, event }, 'a listener to domain events failed');
      }
    }
  }
}

/** UUID of a domain handle; reads memory of this process only. */
export function uuidOf(domain: Pointer): string {
  const text = Buffer.alloc(UUID_TEXT_BYTES);
  binding().virDomainGetUUIDString(domain, text);
  return text.toString('latin1', 0, UUID_TEXT_BYTES - 1);
}
