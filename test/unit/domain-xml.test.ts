/** The XML of a server's domain: as Nova's, and safe against what users write into names. */
import type { InstanceSpec } from '../../drivers/driver';
import { coldDomainXml, type ColdDomain } from '../../drivers/libvirt/domain-xml';
import { serialPortCount } from '../../drivers/libvirt/hardware';
import { InstanceStore } from '../../drivers/libvirt/instance-store';
import { portInterface, disk, toXml } from '../../drivers/libvirt/xml';
import { viewDomain } from '../../drivers/libvirt/xml-reader';
import {
  FlavorImageConflict,
  ImageSerialPortNumberExceedFlavorValue,
  ImageSerialPortNumberInvalid,
  Invalid,
} from '../../lib/exceptions';
import type { Vif } from '../../lib/objects';
import { EMULATION, OTHER_CONSOLES } from '../support/settings';

const UUID = '2abff8de-c6c0-4117-b4aa-adcbecb44bb2';
const VIF: Vif = {
  id: 'fc44e9ab-301c-432a-bf1d-f2a889ab3d0e',
  address: 'fa:16:3e:a2:4b:b4',
  type: 'bridge',
  devname: 'tapfc44e9ab-30',
  active: true,
  preserve_on_delete: false,
  network: { id: 'n', bridge: 'brq7b01afbb-9f', subnets: [], meta: { mtu: 1450 } },
};

function instance(properties: Record<string, string> = {}): InstanceSpec {
  return {
    uuid: UUID,
    name: 'instance-0000002a',
    displayName: 'web',
    projectId: 'p',
    userId: 'u',
    flavor: {
      name: 'm1.small',
      vcpus: 2,
      memoryMb: 512,
      rootGb: 10,
      ephemeralGb: 1,
      swapMb: 64,
      extraSpecs: {},
    },
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

function xmlOf(changes: Partial<ColdDomain> = {}, virtType: 'qemu' | 'kvm' = 'qemu'): string {
  return coldDomainXml({
    instance: instance(),
    network: [VIF],
    paths: new InstanceStore('/var/lib/nova/instances').paths(UUID),
    extras: { ephemeral: true, swap: true, configDrive: true },
    settings: {
      default: { instancesPath: '/var/lib/nova/instances', forceRawImages: true },
      libvirt: { ...EMULATION, virtType },
      vnc: { enabled: true, serverListen: '127.0.0.1', serverProxyclientAddress: '127.0.0.1' },
      ...OTHER_CONSOLES,
    },
    serialPorts: [],
    emulatorPath: '/usr/bin/qemu-system-x86_64',
    machineType: 'pc-i440fx-7.2',
    ...changes,
  });
}

test('the domain of a server with everything', () => {
  expect(xmlOf()).toMatchSnapshot();
});

test('with kvm the guest sees the host model and its clock catches up', () => {
  const xml = xmlOf({}, 'kvm');
  expect(xml).toContain('<domain type="kvm">');
  expect(xml).toContain('<cpu mode="host-model" check="partial">');
  expect(xml).toContain('<timer name="rtc" tickpolicy="catchup"/>');
});

test('names from outside stay text', () => {
  const xml = xmlOf({ instance: { ...instance(), displayName: `</nova:name><os/>&"'\u0000\u0007` } });
  expect(xml).toContain(`<nova:name>&lt;/nova:name&gt;&lt;os/&gt;&amp;"'\ufffd\ufffd</nova:name>`);
});

test('a guest without virtio drivers gets its disks on IDE and its config drive as a CD', () => {
  const xml = xmlOf({ instance: instance({ hw_disk_bus: 'ide', hw_vif_model: 'e1000' }) });
  expect(xml).toContain('<target dev="hda" bus="ide"/>');
  expect(xml).toMatch(/<disk type="file" device="cdrom">[\s\S]*<target dev="hdd" bus="ide"\/>/);
  expect(xml).toContain('<model type="e1000"/>');
});

test.each([
  ['hw_disk_bus', 'floppy'],
  ['hw_vif_model', 'carrier-pigeon'],
  ['hw_video_model', 'cga'],
  ['hw_firmware_type', 'coreboot'],
  ['hw_machine_type', '"/><evil/>'],
])('hardware that is not provided is refused: %s=%s', (property, value) => {
  expect(() => xmlOf({ instance: instance({ [property]: value }) })).toThrow(
    `${property}=${value} is not provided`,
  );
});

test('a hot-plugged NIC waits for its carrier at a known place', () => {
  expect(toXml('interface', portInterface(VIF, { link: 'down', slot: 0x11 }))).toBe(
    `<interface type="bridge">
  <mac address="fa:16:3e:a2:4b:b4"/>
  <source bridge="brq7b01afbb-9f"/>
  <target dev="tapfc44e9ab-30"/>
  <model type="virtio"/>
  <mtu size="1450"/>
  <link state="down"/>
  <address type="pci" domain="0x0000" bus="0x00" slot="0x11" function="0x0"/>
</interface>`,
  );
});

test('a read-only disk discards nothing', () => {
  const xml = toXml(
    'disk',
    disk({ path: '/a&b', format: 'raw', target: 'vdb', bus: 'virtio', readonly: true }),
  );
  expect(xml).toContain('<source file="/a&amp;b"/>');
  expect(xml).toContain('<readonly/>');
  expect(xml).not.toContain('discard');
});

test('taps and the VNC port are read from a running domain', () => {
  const view = (port: string): unknown =>
    viewDomain(`<domain type='qemu'><devices><interface type='bridge'><target dev='tap1'/></interface>
      <interface type='user'/><graphics type='vnc' port='${port}'><listen type='address'/></graphics></devices></domain>`);
  expect(view('5901')).toMatchObject({ taps: ['tap1'], vncPort: 5901, spicePort: null });
  expect(view('-1')).toMatchObject({ taps: ['tap1'], vncPort: null });
  expect(viewDomain('<domain><devices><emulator/></devices></domain>')).toEqual({
    taps: [],
    vncPort: null,
    spicePort: null,
    serialPort: null,
  });
});

test('only a UUID becomes a path', () => {
  const store = new InstanceStore('/instances');
  for (const evil of ['../..', '', `${UUID}/..`, UUID.toUpperCase(), `${UUID}\n`]) {
    expect(() => store.paths(evil)).toThrow(RangeError);
  }
});

test('with serial ports on TCP the first one is logged as well, and the port can be read back', () => {
  const xml = xmlOf({ serialPorts: [10_000, 10_001] });
  expect(xml.match(/<log /g)).toHaveLength(1);
  expect(xml).toMatch(/<serial type="tcp">\s*<source mode="bind" host="127.0.0.1" service="10001"\/>/);
  expect(viewDomain(xml).serialPort).toBe(10_000);
});

test.each([
  [undefined, undefined, 1],
  ['2', undefined, 2],
  ['4', '2', 2],
  [undefined, '3', 3],
])('a flavor with %s serial ports and an image with %s give %i', (ofFlavor, ofImage, count) => {
  const spec = instance(ofImage === undefined ? {} : { hw_serial_port_count: ofImage });
  const extraSpecs: Record<string, string> =
    ofFlavor === undefined ? {} : { 'hw:serial_port_count': ofFlavor };
  expect(serialPortCount({ image: spec.image, flavor: { ...spec.flavor, extraSpecs } })).toBe(count);
});

test('an image gets no more serial ports than its flavor has', () => {
  const { image, flavor } = instance({ hw_serial_port_count: '3' });
  const two = { ...flavor, extraSpecs: { 'hw:serial_port_count': '2' } };
  expect(() => serialPortCount({ image, flavor: two })).toThrow(ImageSerialPortNumberExceedFlavorValue);
  const none = { ...flavor, extraSpecs: { 'hw:serial_port_count': 'many' } };
  expect(() => serialPortCount({ image, flavor: none })).toThrow(ImageSerialPortNumberInvalid);
});

test('the limits of a flavor are in the XML of its disks and NICs', () => {
  const plain = instance();
  const extraSpecs = {
    'quota:disk_write_iops_sec': '100',
    'quota:vif_inbound_average': '1024',
    'quota:vif_outbound_peak': '2048',
  };
  const xml = xmlOf({ instance: { ...plain, flavor: { ...plain.flavor, extraSpecs } } });
  // Root, ephemeral and swap disk.
  expect(xml.match(/<iotune>\s*<write_iops_sec>100<\/write_iops_sec>/g)).toHaveLength(3);
  expect(xml).toMatch(/<bandwidth>\s*<inbound average="1024"\/>\s*<outbound peak="2048"\/>/);
});

test('a port in Open vSwitch is marked with its id', () => {
  const xml = xmlOf({ network: [{ ...VIF, type: 'ovs', network: { ...VIF.network, bridge: 'br-int' } }] });
  expect(xml).toMatch(/<source bridge="br-int"\/>/);
  expect(xml).toMatch(
    new RegExp(`<virtualport type="openvswitch">\\s*<parameters interfaceid="${VIF.id}"/>`),
  );
});

describe('a TPM', () => {
  const vtpmSecret = { uuid: UUID, passphrase: () => Promise.resolve('') };
  const asking = (
    properties: Record<string, string>,
    extraSpecs: Record<string, string> = {},
  ): InstanceSpec => {
    const plain = instance(properties);
    return { ...plain, flavor: { ...plain.flavor, extraSpecs }, vtpmSecret };
  };

  test.each([
    [{ hw_tpm_version: '1.2' }, {}, 'tpm-tis', '1.2'],
    [{}, { 'hw:tpm_version': '2.0', 'hw:tpm_model': 'tpm-crb' }, 'tpm-crb', '2.0'],
    [{ hw_tpm_version: '2.0' }, { 'hw:tpm_version': '2.0' }, 'tpm-tis', '2.0'],
  ])('of %j and %j is there, encrypted', (properties, extraSpecs, model, version) => {
    expect(xmlOf({ instance: asking(properties, extraSpecs) }).replace(/\s+/g, ' ')).toContain(
      `<tpm model="${model}"> <backend type="emulator" version="${version}"> <encryption secret="${UUID}"/>`,
    );
  });

  test.each([
    [{ hw_tpm_version: '3.0' }, {}, Invalid],
    [{ hw_tpm_version: '2.0', hw_tpm_model: 'tpm-spapr' }, {}, Invalid],
    [{ hw_tpm_version: '1.2', hw_tpm_model: 'tpm-crb' }, {}, Invalid],
    [{ hw_tpm_version: '1.2' }, { 'hw:tpm_version': '2.0' }, FlavorImageConflict],
  ])('of %j and %j is refused', (properties, extraSpecs, refusal) => {
    expect(() => xmlOf({ instance: asking(properties, extraSpecs) })).toThrow(refusal);
  });

  test('is not made without a secret', () => {
    expect(() => xmlOf({ instance: instance({ hw_tpm_version: '2.0' }) })).toThrow(/with no secret/);
    expect(xmlOf({ instance: asking({ hw_tpm_model: 'tpm-crb' }) })).not.toContain('<tpm');
  });
});
