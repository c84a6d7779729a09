/** What a server gets (nova/objects/flavor.py). */
import { integer, nullableInteger, stringMap, text } from './fields';
import { NovaObject } from './nova-object';

export class Flavor extends NovaObject {
  static readonly className = 'Flavor';

  get id(): number {
    return this.read('id', integer);
  }
  get flavorId(): string {
    return this.read('flavorid', text);
  }
  get name(): string {
    return this.read('name', text);
  }
  get vcpus(): number {
    return this.read('vcpus', integer);
  }
  get memoryMb(): number {
    return this.read('memory_mb', integer);
  }
  get rootGb(): number {
    return this.read('root_gb', integer);
  }
  get ephemeralGb(): number {
    return this.read('ephemeral_gb', nullableInteger) ?? 0;
  }
  /** Swap disk in MiB. */
  get swapMb(): number {
    return this.read('swap', integer);
  }
  /** Empty when not loaded. */
  get extraSpecs(): Readonly<Record<string, string>> {
    return this.has('extra_specs') ? this.read('extra_specs', stringMap) : {};
  }
}
