/** The record by which a compute service shows that it is alive (nova/objects/service.py). */
import { flag, integer, nullableDate, nullableText } from './fields';
import { NovaObject } from './nova-object';

export class Service extends NovaObject {
  static readonly className = 'Service';

  get id(): number {
    return this.read('id', integer);
  }
  get host(): string | null {
    return this.read('host', nullableText);
  }
  get binary(): string | null {
    return this.read('binary', nullableText);
  }
  /** Counts the reports made; each save of a new count tells the world that the service is up. */
  get reportCount(): number {
    return this.read('report_count', integer);
  }
  get disabled(): boolean {
    return this.read('disabled', flag);
  }
  get disabledReason(): string | null {
    return this.read('disabled_reason', nullableText);
  }
  get forcedDown(): boolean {
    return this.read('forced_down', flag);
  }
  get lastSeenUp(): Date | null {
    return this.read('last_seen_up', nullableDate);
  }
  /** Nova's service version: 64 is Zed. */
  get version(): number {
    return this.read('version', integer);
  }
}
