/**
 * News from Neutron about ports (`external_instance_event`): who waits for what, and waking them
 * (nova/compute/manager.py, InstanceEvents).
 */
import { VirtualInterfaceCreateException } from '../exceptions';

/** What Neutron reported for one port. */
interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Someone waits for an event; `outcome` must be awaited or cancelled. */
export interface ExpectedEvent {
  /** Resolves when the event came, rejects when Neutron reported a failure. */
  readonly outcome: Promise<void>;
  readonly cancel: () => void;
}

/** Events that someone waits for, by server, name and tag (the port's id). */
export class ExternalEvents {
  private readonly waiters = new Map<string, Waiter>();

  /** Starts to wait now, so that an event arriving before the caller awaits it is not missed. */
  expect(instanceUuid: string, name: string, tag: string): ExpectedEvent {
    const key = keyOf(instanceUuid, name, tag);
    const outcome = new Promise<void>((resolve, reject) => this.waiters.set(key, { resolve, reject }));
    outcome.catch(() => undefined);
    return { outcome, cancel: () => void this.waiters.delete(key) };
  }

  /** Wakes whoever waits for this event. @returns whether someone did */
  deliver(instanceUuid: string, name: string, tag: string, status: string): boolean {
    const key = keyOf(instanceUuid, name, tag);
    const waiter = this.waiters.get(key);
    if (waiter === undefined) return false;
    this.waiters.delete(key);
    if (status === 'failed') {
      waiter.reject(
        new VirtualInterfaceCreateException(`Neutron reported that ${name} failed for port ${tag}`),
      );
    } else {
      waiter.resolve();
    }
    return true;
  }
}

function keyOf(instanceUuid: string, name: string, tag: string): string {
  return `${instanceUuid} ${name} ${tag}`;
}
