/** A hypervisor's record: what it has and how much of it is used (nova/objects/compute_node.py). */
import { z } from 'zod';
import { integer, nullableText, stringMap, text, uuid } from './fields';
import { NovaObject } from './nova-object';

/** One kind of guest that a hypervisor runs. */
export class HVSpec extends NovaObject {
  static readonly className = 'HVSpec';
}

export class ComputeNode extends NovaObject {
  static readonly className = 'ComputeNode';

  get id(): number {
    return this.read('id', integer);
  }
  /** Also the UUID of the resource provider in Placement. */
  get uuid(): string {
    return this.read('uuid', uuid);
  }
  get host(): string | null {
    return this.read('host', nullableText);
  }
  get hypervisorHostname(): string {
    return this.read('hypervisor_hostname', text);
  }
  get vcpus(): number {
    return this.read('vcpus', integer);
  }
  get memoryMb(): number {
    return this.read('memory_mb', integer);
  }
  get localGb(): number {
    return this.read('local_gb', integer);
  }
  get vcpusUsed(): number {
    return this.read('vcpus_used', integer);
  }
  get memoryMbUsed(): number {
    return this.read('memory_mb_used', integer);
  }
  get localGbUsed(): number {
    return this.read('local_gb_used', integer);
  }
  get cpuAllocationRatio(): number {
    return this.read('cpu_allocation_ratio', z.number());
  }
  get ramAllocationRatio(): number {
    return this.read('ram_allocation_ratio', z.number());
  }
  get diskAllocationRatio(): number {
    return this.read('disk_allocation_ratio', z.number());
  }
  /** Counters such as `failed_builds`, all as text. */
  get stats(): Readonly<Record<string, string>> {
    return this.read('stats', stringMap.nullable()) ?? {};
  }
}
