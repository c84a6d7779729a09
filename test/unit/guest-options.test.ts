/** What a flavor's extra specs and an image's properties ask of the virtual hardware: done as by Nova, or refused by name. */
import type { InstanceSpec } from '../../drivers/driver';
import { coldDomainXml } from '../../drivers/libvirt/domain-xml';
import { InstanceStore } from '../../drivers/libvirt/instance-store';
import type { Vif } from '../../lib/objects';
import { EMULATION, OTHER_CONSOLES } from '../support/settings';

const UUID = '2abff8de-c6c0-4117-b4aa-adcbecb44bb2';
const PORT: Vif = {
  id: UUID,
  address: 'fa:16:3e:a2:4b:b4',
  type: 'bridge',
  devname: 'tap0',
  active: true,
  preserve_on_delete: false,
  network: { id: 'n', bridge: 'br', subnets: [], meta: {} },
};

type Names = Readonly<Record<string, string>>;

function server(extraSpecs: Names, properties: Names, vcpus = 4): InstanceSpec {
  return {
    uuid: UUID,
    name: 'instance-1',
    displayName: 'web',
    projectId: 'p',
    userId: 'u',
    flavor: { name: 'f', vcpus, memoryMb: 512, rootGb: 1, ephemeralGb: 0, swapMb: 0, extraSpecs },
    image: {
      id: 'i',
      diskFormat: 'qcow2',
      containerFormat: 'bare',
      sizeBytes: 1,
      minDiskGb: 0,
      minRamMb: 0,
      checksum: null,
      properties,
    },
  };
}

/** On one line. */
function xmlOf(extraSpecs: Names, properties: Names, { virtType = 'qemu', spiceOnly = false } = {}): string {
  return coldDomainXml({
    instance: server(extraSpecs, properties),
    network: [PORT],
    paths: new InstanceStore('/instances').paths(UUID),
    extras: { ephemeral: false, swap: false, configDrive: false },
    settings: {
      default: { instancesPath: '/instances', forceRawImages: true },
      libvirt: { ...EMULATION, virtType: virtType === 'kvm' ? 'kvm' : 'qemu' },
      vnc: { enabled: !spiceOnly, serverListen: '127.0.0.1', serverProxyclientAddress: '127.0.0.1' },
      ...OTHER_CONSOLES,
      spice: { ...OTHER_CONSOLES.spice, enabled: spiceOnly },
    },
    serialPorts: [],
    emulatorPath: '/usr/bin/qemu-system-x86_64',
    machineType: 'pc',
  }).replace(/\n\s*/g, '');
}

test.each<[Names, Names, string]>([
  [{ 'hw:watchdog_action': 'reset' }, {}, '<watchdog model="i6300esb" action="reset"/>'],
  [
    { 'hw:watchdog_action': 'reset' },
    { hw_watchdog_action: 'none' },
    '<watchdog model="i6300esb" action="none"/>',
  ],
  [{ 'hw_rng:rate_bytes': '64', 'hw_rng:rate_period': '1000' }, {}, '<rate bytes="64" period="1000"/>'],
  [{ 'hw:pmu': 'True' }, {}, '<pmu state="on"/>'],
  [{}, { hw_pmu: 'false' }, '<pmu state="off"/>'],
  [{ 'hw:boot_menu': 'yes' }, {}, '<bootmenu enable="yes"/>'],
  [{ hide_hypervisor_id: 'true' }, {}, '<kvm><hidden state="on"/></kvm>'],
  [{ 'hw:hide_hypervisor_id': 'true' }, {}, '<kvm><hidden state="on"/></kvm>'],
  [{}, { img_hide_hypervisor_id: 'yes' }, '<kvm><hidden state="on"/></kvm>'],
  [{ 'hw_video:ram_max_mb': '64' }, { hw_video_ram: '16' }, '<model type="virtio" vram="16384"/>'],
  [{}, { hw_video_model: 'qxl' }, '<video><model type="qxl"/>'],
  [
    {},
    { hw_input_bus: 'virtio' },
    '<input type="tablet" bus="virtio"/><input type="keyboard" bus="virtio"/>',
  ],
  [{}, { hw_pointer_model: 'usbtablet' }, '<input type="tablet" bus="usb"/>'],
  [{}, { hw_time_hpet: 'true' }, '<timer name="hpet" present="yes"/>'],
  [
    { 'quota:cpu_shares': '512', 'quota:cpu_quota': '5000' },
    {},
    '<cputune><shares>512</shares><quota>5000</quota></cputune>',
  ],
  // CPU topologies: rather sockets than cores, and threads only where they are asked for.
  [{}, {}, '<topology sockets="4" cores="1" threads="1"/>'],
  [{ 'hw:cpu_sockets': '1', 'hw:cpu_threads': '2' }, {}, '<topology sockets="1" cores="2" threads="2"/>'],
  [{ 'hw:cpu_max_sockets': '2' }, {}, '<topology sockets="2" cores="2" threads="1"/>'],
  [{ 'hw:cpu_cores': '4' }, { hw_cpu_threads: '4' }, '<topology sockets="1" cores="1" threads="4"/>'],
  [{ 'hw:cpu_cores': '4' }, { hw_cpu_max_cores: '2' }, '<topology sockets="4" cores="1" threads="1"/>'],
  // What asks for nothing.
  [{ 'hw:cpu_policy': 'shared', 'hw:mem_encryption': 'false' }, { hw_architecture: 'x86_64' }, '<acpi/>'],
])('%j and %j give %s', (extraSpecs, properties, expected) => {
  expect(xmlOf(extraSpecs, properties)).toContain(expected);
});

test.each<[Names, Names, string]>([
  [{ 'hw:boot_menu': 'yes' }, { hw_boot_menu: 'no' }, '<bootmenu'],
  [{ 'hw:watchdog_action': 'disabled' }, {}, '<watchdog'],
  [{}, {}, '<pmu'],
  // A matter of KVM.
  [{ 'hw:vif_multiqueue_enabled': 'true' }, {}, 'queues='],
])('%j and %j give no %s', (extraSpecs, properties, unexpected) => {
  expect(xmlOf(extraSpecs, properties)).not.toContain(unexpected);
});

test('under KVM virtio NICs have a queue for each vCPU where that is asked for', () => {
  const asked = { 'hw:vif_multiqueue_enabled': 'true' };
  const queues = '<driver name="vhost" queues="4"/>';
  expect(xmlOf(asked, {}, { virtType: 'kvm' })).toContain(queues);
  expect(xmlOf({}, { hw_vif_multiqueue_enabled: 'yes' }, { virtType: 'kvm' })).toContain(queues);
  expect(xmlOf(asked, { hw_vif_model: 'e1000' }, { virtType: 'kvm' })).not.toContain('queues=');
  expect(xmlOf({}, {}, { virtType: 'kvm' })).not.toContain('queues=');
});

test("SPICE's agent needs no tablet", () => {
  expect(xmlOf({}, {}, { spiceOnly: true })).not.toContain('<input');
});

const NOT_HERE = /Insufficient compute resources: .* is not provided by prebake-compute/;

test.each<[Names, Names, string | RegExp]>([
  [{ 'hw:watchdog_action': 'explode' }, {}, /watchdog action \(explode\)/],
  [{}, { hw_video_ram: '16' }, /video memory 16 is higher than the maximum allowed by flavor 0/],
  [{ 'hw:pmu': 'true' }, { hw_pmu: 'false' }, /conflicting with image/],
  [{ 'hw:vif_multiqueue_enabled': 'no' }, { hw_vif_multiqueue_enabled: 'yes' }, /conflicting with image/],
  [{ 'hw_rng:rate_bytes': 'many' }, {}, /has to be a number/],
  [{}, { hw_input_bus: 'ps2' }, /hw_input_bus=ps2 is not provided here/],
  [{ 'hw:cpu_sockets': 'two' }, {}, /has to be a number/],
  [{ 'hw:cpu_max_cores': '2' }, { hw_cpu_max_cores: '4' }, /exceed those of the flavor/],
  [{ 'hw:cpu_max_cores': '2' }, { hw_cpu_cores: '4' }, /exceeds the limits/],
  [
    { 'hw:cpu_max_sockets': '1', 'hw:cpu_max_cores': '1', 'hw:cpu_max_threads': '2' },
    {},
    /impossible to satisfy/,
  ],
  ...[
    { 'hw:cpu_policy': 'dedicated' },
    { 'hw:cpu_policy': 'mixed', 'hw:cpu_dedicated_mask': '0' },
    { 'hw:cpu_thread_policy': 'isolate' },
    { 'hw:cpu_realtime': 'yes' },
    { 'hw:emulator_threads_policy': 'isolate' },
    { 'hw:numa_nodes': '2' },
    { 'hw:numa_cpus.0': '0,1' },
    { 'hw:mem_page_size': 'large' },
    { 'hw:locked_memory': 'true' },
    { 'hw:mem_encryption': 'true' },
    { 'hw:pmem': '6GB' },
    { 'hw:viommu_model': 'virtio' },
    { 'pci_passthrough:alias': 'gpu:1' },
    { 'accel:device_profile': 'fpga' },
  ].map((extraSpecs): [Names, Names, RegExp] => [extraSpecs, {}, NOT_HERE]),
  ...[
    { hw_cpu_policy: 'dedicated' },
    { hw_numa_nodes: '2' },
    { hw_mem_page_size: '2048' },
    { hw_mem_encryption: 'true' },
    { hw_viommu_model: 'intel' },
    { hw_emulation_architecture: 'aarch64' },
    { kernel_id: UUID },
  ].map((properties): [Names, Names, RegExp] => [{}, properties, NOT_HERE]),
])('%j and %j are refused', (extraSpecs, properties, why) => {
  expect(() => xmlOf(extraSpecs, properties)).toThrow(why);
});
