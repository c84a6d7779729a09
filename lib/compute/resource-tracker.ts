/**
 * What this host has and what its servers use of it: the ComputeNode record for Nova, the provider's inventory and traits
 * for Placement (nova/compute/resource_tracker.py). Allocations are the scheduler's business and not made here.
 */
import type { ComputeDriver, HostResources } from '../../drivers/driver';
import type { Config } from '../config';
import { ComputeNode, type Flavor, HVSpec, type Instance, NovaObject, createObject } from '../objects';
import type { Inventory, Placement } from '../openstack';
import type { RequestContext } from '../messaging';
import type { HostRecords } from './host-records';
import type { InstanceRecords } from './instance-records';
import { RESIZE_TASK_STATES, TaskState, VmState } from './states';

/** Trait that keeps the scheduler away from a disabled host (nova/compute/manager.py, update_compute_provider_status). */
const DISABLED_TRAIT = 'COMPUTE_STATUS_DISABLED';
/** Task states during which a server burdens the host's disks (nova/compute/stats.py). */
const IO_TASK_STATES = new Set([
  'resize_migrating',
  'rebuilding',
  'resize_prep',
  'image_snapshot',
  'image_backup',
  'rescuing',
  'unshelving',
  'shelving',
]);

/** What one server takes. */
interface Usage {
  readonly vcpus: number;
  readonly memoryMb: number;
  readonly diskGb: number;
  readonly vmState: string | null;
  readonly taskState: string | null;
  readonly projectId: string;
  readonly osType: unknown;
}

/** The room that a flavor takes. */
function room({
  vcpus,
  memoryMb,
  rootGb,
  ephemeralGb,
}: Flavor): Pick<Usage, 'vcpus' | 'memoryMb' | 'diskGb'> {
  return { vcpus, memoryMb, diskGb: rootGb + ephemeralGb };
}

/** What a tracker works with. */
export interface ResourceTrackerParts {
  readonly driver: Pick<ComputeDriver, 'getAvailableResource'>;
  readonly hosts: HostRecords;
  readonly instances: InstanceRecords;
  readonly placement: Pick<Placement, 'ensureProvider' | 'setInventory' | 'setTraits'>;
  readonly config: Config;
}

/** Keeps the host's records in step with the host. */
export class ResourceTracker {
  private readonly usage = new Map<string, Usage>();
  /** Servers being built: the database may not know yet that they are here. */
  private readonly claimed = new Set<string>();
  private node: ComputeNode | null = null;
  private resources: HostResources | null = null;
  private publishing: Promise<void> = Promise.resolve();
  private publishQueued = false;
  private failedBuilds = 0;
  private disabled = false;

  constructor(private readonly parts: ResourceTrackerParts) {}

  /** Name of the only node of this host: libvirt's hostname. */
  get nodeName(): string {
    if (this.resources === null) throw new Error('the resource tracker has not been started');
    return this.resources.hypervisorHostname;
  }

  /**
   * Finds or makes the ComputeNode record, its provider in Placement, inventory and traits, and counts the servers
   * that are already here.
   */
  async start(context: RequestContext, options: { disabled: boolean }): Promise<void> {
    this.disabled = options.disabled;
    this.resources = await this.parts.driver.getAvailableResource();
    this.node = await this.parts.hosts.findComputeNode(context, this.nodeName);
    if (this.node === null) {
      const node = createObject(ComputeNode, this.initialFields(this.resources));
      await this.parts.hosts.createComputeNode(context, node);
      this.node = node;
    }
    await this.update(context);
  }

  /** The audit nova-compute runs every `update_resources_interval`: host, servers, record, inventory, traits. */
  async update(context: RequestContext): Promise<void> {
    this.resources = await this.parts.driver.getAvailableResource();
    const instances = await this.parts.instances.listOnNode(context, this.nodeName);
    const present = new Set(instances.map((instance) => instance.uuid));
    for (const uuid of [...this.usage.keys()]) {
      if (!present.has(uuid) && !this.claimed.has(uuid)) this.usage.delete(uuid);
    }
    for (const instance of instances) this.track(instance);
    await this.publishPlacement();
    await this.publish(context);
  }

  /** Counts a server that is about to be built here; `track` or `release` ends the claim. */
  claim(instance: Instance): void {
    this.track(instance);
    this.claimed.add(instance.uuid);
  }

  /** Counts a server from now on, and again when its states change; one that no longer takes anything is forgotten. */
  track(instance: Instance): void {
    this.claimed.delete(instance.uuid);
    const unshelving = instance.taskState === TaskState.SPAWNING;
    const gone = instance.vmState === VmState.SHELVED_OFFLOADED && !unshelving;
    if (instance.vmState === VmState.DELETED || gone) {
      this.usage.delete(instance.uuid);
      return;
    }
    const rooms = [instance.flavor, ...reservedFlavors(instance)].map(room);
    this.usage.set(instance.uuid, {
      vcpus: sum(rooms.map(({ vcpus }) => vcpus)),
      memoryMb: sum(rooms.map(({ memoryMb }) => memoryMb)),
      diskGb: sum(rooms.map(({ diskGb }) => diskGb)),
      vmState: instance.vmState,
      taskState: instance.taskState,
      projectId: instance.projectId,
      osType: instance.has('os_type') ? instance.get('os_type') : null,
    });
  }

  /** Forgets a server. */
  release(uuid: string): void {
    this.claimed.delete(uuid);
    this.usage.delete(uuid);
  }

  /** Counts a build that failed here; the scheduler's BuildFailureWeigher reads it. */
  buildFailed(): void {
    this.failedBuilds += 1;
  }

  /** A build that succeeded clears the count of failures (nova: build_succeeded). */
  buildSucceeded(): void {
    this.failedBuilds = 0;
  }

  /** Writes the usage to the ComputeNode record; calls that come while one is under way share one more write. */
  publish(context: RequestContext): Promise<void> {
    if (!this.publishQueued) {
      this.publishQueued = true;
      this.publishing = this.publishing
        .catch(() => undefined)
        .then(async () => {
          this.publishQueued = false;
          const { node, resources } = this;
          if (node === null || resources === null) return;
          for (const [field, value] of Object.entries(this.currentFields(resources))) {
            if (!node.has(field) || !same(node.get(field), value)) node.set(field, value);
          }
          await this.parts.hosts.saveComputeNode(context, node);
        });
    }
    return this.publishing;
  }

  /** Sets or clears COMPUTE_STATUS_DISABLED on the provider. */
  async setEnabled(enabled: boolean): Promise<void> {
    this.disabled = !enabled;
    await this.publishPlacement();
  }

  private async publishPlacement(): Promise<void> {
    const { node, resources } = this;
    if (node === null || resources === null) return;
    const { placement } = this.parts;
    await placement.ensureProvider(node.uuid, this.nodeName);
    await placement.setInventory(node.uuid, this.inventory(node, resources));
    const traits = this.disabled ? [...resources.traits, DISABLED_TRAIT] : resources.traits;
    await placement.setTraits(node.uuid, traits);
  }

  private inventory(node: ComputeNode, resources: HostResources): Record<string, Inventory> {
    const defaults = this.parts.config.default;
    return {
      VCPU: {
        total: resources.vcpus,
        min_unit: 1,
        max_unit: resources.vcpus,
        step_size: 1,
        allocation_ratio: node.cpuAllocationRatio,
        reserved: defaults.reservedHostCpus,
      },
      MEMORY_MB: {
        total: resources.memoryMb,
        min_unit: 1,
        max_unit: resources.memoryMb,
        step_size: 1,
        allocation_ratio: node.ramAllocationRatio,
        reserved: defaults.reservedHostMemoryMb,
      },
      DISK_GB: {
        total: resources.localGb,
        min_unit: 1,
        max_unit: resources.localGb,
        step_size: 1,
        allocation_ratio: node.diskAllocationRatio,
        reserved: Math.ceil(defaults.reservedHostDiskMb / 1024),
      },
    };
  }

  private initialFields(resources: HostResources): Record<string, unknown> {
    const { default: options } = this.parts.config;
    return {
      host: options.host,
      hypervisor_hostname: resources.hypervisorHostname,
      cpu_allocation_ratio: options.cpuAllocationRatio ?? options.initialCpuAllocationRatio,
      ram_allocation_ratio: options.ramAllocationRatio ?? options.initialRamAllocationRatio,
      disk_allocation_ratio: options.diskAllocationRatio ?? options.initialDiskAllocationRatio,
      ...this.currentFields(resources),
    };
  }

  private currentFields(resources: HostResources): Record<string, unknown> {
    const { default: options } = this.parts.config;
    const used = [...this.usage.values()];
    const vcpusUsed = options.reservedHostCpus + sum(used.map((usage) => usage.vcpus));
    const memoryMbUsed = options.reservedHostMemoryMb + sum(used.map((usage) => usage.memoryMb));
    const localGbUsed = Math.ceil(options.reservedHostDiskMb / 1024) + sum(used.map((usage) => usage.diskGb));
    const stats = this.stats(used);
    return {
      vcpus: resources.vcpus,
      memory_mb: resources.memoryMb,
      local_gb: resources.localGb,
      vcpus_used: vcpusUsed,
      memory_mb_used: memoryMbUsed,
      local_gb_used: localGbUsed,
      free_ram_mb: resources.memoryMb - memoryMbUsed,
      free_disk_gb: resources.localGb - localGbUsed,
      disk_available_least: resources.diskAvailableLeastGb,
      running_vms: used.length,
      current_workload: used.filter((usage) => usage.taskState !== null).length,
      hypervisor_type: resources.hypervisorType,
      hypervisor_version: resources.hypervisorVersion,
      cpu_info: JSON.stringify(resources.cpuInfo),
      host_ip: options.myIp,
      supported_hv_specs: resources.supportedInstances.map(([arch, hvType, vmMode]) =>
        createObject(HVSpec, { arch, hv_type: hvType, vm_mode: vmMode }),
      ),
      metrics: '[]',
      stats,
    };
  }

  private stats(used: readonly Usage[]): Record<string, string> {
    const counts = new Map<string, number>();
    const count = (key: string): void => void counts.set(key, (counts.get(key) ?? 0) + 1);
    for (const usage of used) {
      count('num_instances');
      count(`num_vm_${usage.vmState ?? 'None'}`);
      count(`num_task_${usage.taskState ?? 'None'}`);
      count(`num_os_type_${typeof usage.osType === 'string' ? usage.osType : 'None'}`);
      count(`num_proj_${usage.projectId}`);
    }
    const ioWorkload = used.filter(
      (usage) => usage.vmState === VmState.BUILDING || IO_TASK_STATES.has(usage.taskState ?? ''),
    ).length;
    return {
      ...Object.fromEntries([...counts].map(([key, value]) => [key, String(value)])),
      ...(used.length > 0 ? { io_workload: String(ioWorkload) } : {}),
      failed_builds: String(this.failedBuilds),
    };
  }
}

/** Until a resize is confirmed, the server may go back to the flavor it had: room for both is kept (nova: MoveClaim). */
function reservedFlavors(instance: Instance): Flavor[] {
  const { vmState, taskState, flavor, oldFlavor, newFlavor } = instance;
  const moving = RESIZE_TASK_STATES.includes(taskState) || taskState === TaskState.RESIZE_REVERTING;
  if (!moving && vmState !== VmState.RESIZED) return [];
  const other = [newFlavor, oldFlavor].find((known) => known !== null && known.id !== flavor.id);
  return other === null || other === undefined ? [] : [other];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function same(left: unknown, right: unknown): boolean {
  return JSON.stringify(plain(left)) === JSON.stringify(plain(right));
}

/** Objects compare by content: which of their fields count as changed does not matter. */
function plain(value: unknown): unknown {
  if (value instanceof NovaObject) return plain(value.toPrimitive()['nova_object.data']);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries.map(([key, item]) => [key, plain(item)]));
  }
  return value ?? null;
}
