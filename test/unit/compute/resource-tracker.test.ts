/** What the ComputeNode record and Placement are told of this host. */
import type { HostResources } from '../../../drivers/driver';
import { HostRecords } from '../../../lib/compute/host-records';
import { InstanceRecords } from '../../../lib/compute/instance-records';
import { ResourceTracker, type ResourceTrackerParts } from '../../../lib/compute/resource-tracker';
import { RequestContext } from '../../../lib/messaging';
import { ComputeNode, Conductor, Flavor, Instance, createObject, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { ScriptedConductor } from '../../support/scripted-conductor';

const NODE = createObject(ComputeNode, {
  id: 1,
  uuid: '5e3cad06-5887-448a-9508-f186edfee65b',
  host: 'prebake',
  hypervisor_hostname: 'node',
  cpu_allocation_ratio: 16,
  ram_allocation_ratio: 1.5,
  disk_allocation_ratio: 1,
});
const RESOURCES: HostResources = {
  vcpus: 2,
  memoryMb: 8192,
  localGb: 100,
  localGbUsed: 10,
  memoryMbUsed: 1000,
  diskAvailableLeastGb: 80,
  hypervisorType: 'QEMU',
  hypervisorVersion: 7_002_022,
  hypervisorHostname: 'node',
  cpuInfo: { arch: 'x86_64' },
  supportedInstances: [['x86_64', 'qemu', 'hvm']],
  traits: ['COMPUTE_NODE'],
};

/** The recorded server: 1 vCPU, 64 MiB, 1 GiB. */
function server(): Instance {
  const { instance } = deserialise(argsOf(recordedRequest('build_and_run_instance'))) as Record<
    string,
    unknown
  >;
  if (instance instanceof Instance) return instance;
  throw new Error('the recorded request has no instance');
}

function world(instances: readonly Instance[] = []) {
  const list = {
    'nova_object.name': 'InstanceList',
    'nova_object.namespace': 'nova',
    'nova_object.version': '2.6',
    'nova_object.data': { objects: instances.map((instance) => instance.toPrimitive()) },
  };
  NODE.resetChanges();
  const conductor = new ScriptedConductor({
    'ComputeNode.get_by_host_and_nodename': NODE.toPrimitive(),
    'InstanceList.get_by_host_and_node': list,
  });
  const client = new Conductor(conductor, { timeoutMs: 1000 });
  const told: Record<string, unknown> = {};
  const tracker = new ResourceTracker({
    driver: { getAvailableResource: () => Promise.resolve(RESOURCES) },
    hosts: new HostRecords(client, 'prebake'),
    instances: new InstanceRecords(client, 'prebake'),
    placement: {
      ensureProvider: (uuid: string, name: string) => Promise.resolve({ uuid, name, generation: 0 }),
      setInventory: (_uuid: string, inventory: unknown) =>
        Promise.resolve(((told.inventory = inventory), true)),
      setTraits: (_uuid: string, traits: Iterable<string>) =>
        Promise.resolve(((told.traits = [...traits]), true)),
    },
    config: {
      default: {
        myIp: '127.0.0.1',
        reservedHostCpus: 0,
        reservedHostMemoryMb: 512,
        reservedHostDiskMb: 1500,
      },
    } as ResourceTrackerParts['config'],
  });
  return { tracker, conductor, told };
}

const LARGER = { id: 77, vcpus: 2, memory_mb: 512, root_gb: 4, ephemeral_gb: 0 };
const USED = ['vcpus_used', 'memory_mb_used', 'free_ram_mb', 'local_gb_used', 'running_vms'] as const;
const context = RequestContext.admin();

test('tells Placement what there is, with what is kept for the host', async () => {
  const { tracker, told } = world();
  await tracker.start(context, { disabled: false });
  expect(told.inventory).toMatchObject({
    VCPU: { total: 2, allocation_ratio: 16, reserved: 0 },
    MEMORY_MB: { total: 8192, allocation_ratio: 1.5, reserved: 512 },
    DISK_GB: { total: 100, allocation_ratio: 1, reserved: 2 },
  });
  expect(told.traits).toEqual(['COMPUTE_NODE']);
  await tracker.setEnabled(false);
  expect(told.traits).toEqual(['COMPUTE_NODE', 'COMPUTE_STATUS_DISABLED']);
});

test('counts its servers, and writes only what changed', async () => {
  const { tracker, conductor } = world([server()]);
  await tracker.start(context, { disabled: false });
  expect(conductor.writes('ComputeNode.save', ...USED)).toEqual([
    { vcpus_used: 1, memory_mb_used: 576, free_ram_mb: 7616, local_gb_used: 3, running_vms: 1 },
  ]);
  await tracker.update(context);
  expect(conductor.writes('ComputeNode.save')).toHaveLength(1);
});

test('keeps counting a server that is being built, though the database does not place it here yet', async () => {
  const { tracker, conductor } = world();
  await tracker.start(context, { disabled: false });
  const building = server();
  tracker.claim(building);
  await tracker.update(context);
  expect(conductor.writes('ComputeNode.save', 'running_vms').at(-1)).toEqual({ running_vms: 1 });
  tracker.track(building);
  await tracker.update(context);
  expect(conductor.writes('ComputeNode.save', 'running_vms').at(-1)).toEqual({ running_vms: 0 });
});

test('a server counts with both its flavors until its resize is confirmed', async () => {
  const resized = server();
  const { flavor } = resized;
  resized.update({ vm_state: 'resized', task_state: null, old_flavor: flavor, new_flavor: null });
  resized.set('flavor', createObject(Flavor, { ...LARGER }));
  const { tracker, conductor } = world([resized]);
  await tracker.start(context, { disabled: false });
  expect(conductor.writes('ComputeNode.save', ...USED).at(-1)).toMatchObject({
    vcpus_used: 3,
    memory_mb_used: 512 + 64 + 512,
  });
});
