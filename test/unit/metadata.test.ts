/** What a guest reads about itself, against the rules of Nova's metadata. */
import {
  blockDeviceMapping,
  buildIdentity,
  deviceList,
  networkData,
  type IdentityRequest,
} from '../../lib/compute/metadata';
import {
  deserialise,
  networkInfoSchema,
  type Instance,
  type NetworkInfo,
  type Subnet,
} from '../../lib/objects';
import { recordedCreate } from '../support/recorded';

const recordedInfo: NetworkInfo = networkInfoSchema.parse(recordedCreate.networkInfo);
const [vif] = recordedInfo;
if (vif === undefined) throw new Error('the recording has a NIC');
const nic = vif;

const flavor = {
  'nova_object.name': 'Flavor',
  'nova_object.namespace': 'nova',
  'nova_object.version': '1.2',
  'nova_object.data': { ephemeral_gb: 0, swap: 0 },
};

function instance(changes: Readonly<Record<string, unknown>> = {}): Instance {
  const data = { ...recordedCreate.instance['nova_object.data'], flavor, ...changes };
  return deserialise({ ...recordedCreate.instance, 'nova_object.data': data }) as Instance;
}

function keys(...pairs: readonly Readonly<Record<string, string>>[]): unknown {
  const wrap = (name: string, version: string, data: unknown) => ({
    'nova_object.name': name,
    'nova_object.namespace': 'nova',
    'nova_object.version': version,
    'nova_object.data': data,
  });
  return wrap('KeyPairList', '1.3', { objects: pairs.map((pair) => wrap('KeyPair', '1.4', pair)) });
}

/** An object of Nova's as the database gives it. */
function wrapped(name: string, data: unknown): unknown {
  return {
    'nova_object.name': name,
    'nova_object.namespace': 'nova',
    'nova_object.version': '1.0',
    'nova_object.data': data,
  };
}

test('tagged devices are told of by the version of the metadata', () => {
  const pci = wrapped('PCIDeviceBus', { address: '0000:00:03.0' });
  const devices = [
    wrapped('NetworkInterfaceMetadata', { mac: 'fa:16:3e:00:00:01', tags: ['front'], bus: pci }),
    wrapped('DiskMetadata', {
      serial: null,
      tags: ['data'],
      bus: wrapped('SCSIDeviceBus', { address: '0:0:1:0' }),
    }),
    wrapped('DiskMetadata', { tags: ['stick'], bus: wrapped('USBDeviceBus', {}) }),
  ];
  const tagged = instance({ device_metadata: wrapped('InstanceDeviceMetadata', { devices }) });
  const nicOnPci = {
    type: 'nic',
    mac: 'fa:16:3e:00:00:01',
    tags: ['front'],
    bus: 'pci',
    address: '0000:00:03.0',
  };
  expect(deviceList(tagged, '2016-06-30')[0]).toEqual(nicOnPci);
  expect(deviceList(tagged, 'latest')).toEqual([
    { ...nicOnPci, vf_trusted: false },
    { type: 'disk', serial: null, tags: ['data'], bus: 'scsi', address: '0:0:1:0' },
    { type: 'disk', tags: ['stick'], bus: 'usb', address: 'none' },
  ]);
  expect(read({ instance: tagged }, 'openstack/latest/meta_data.json')).toMatchObject({
    devices: deviceList(tagged, 'latest'),
  });
  expect(deviceList(instance({ device_metadata: null }), 'latest')).toEqual([]);
});

function identify(changes: Partial<IdentityRequest> = {}) {
  return buildIdentity({
    instance: instance(),
    networkInfo: recordedInfo,
    adminPassword: null,
    injectedFiles: [],
    forceConfigDrive: false,
    ...changes,
  });
}

function read(changes: Partial<IdentityRequest>, path: string): unknown {
  const file = identify(changes).files.find((one) => one.path === path);
  return file === undefined ? undefined : JSON.parse(file.content.toString());
}

function withSubnets(...subnets: readonly Partial<Subnet>[]): NetworkInfo {
  const [first] = nic.network.subnets;
  if (first === undefined) throw new Error('the recording has a subnet');
  const base: Subnet = { ...first, meta: {} };
  return [
    { ...nic, network: { ...nic.network, subnets: subnets.map((subnet) => ({ ...base, ...subnet })) } },
  ];
}

describe('network_data.json', () => {
  test('a NIC with DHCP', () => {
    expect(networkData(recordedInfo)).toEqual({
      links: [
        {
          id: 'tap63147f21-e5',
          vif_id: '63147f21-e53c-40a6-b3f7-9dc021ac40c1',
          type: 'bridge',
          mtu: null,
          ethernet_mac_address: 'fa:16:3e:51:7a:a0',
        },
      ],
      networks: [
        {
          id: 'network0',
          type: 'ipv4_dhcp',
          link: 'tap63147f21-e5',
          network_id: '7b01afbb-9f71-420f-ac54-b86ed9a39064',
        },
      ],
      services: [],
    });
  });

  test('a NIC with a fixed address, routes, name servers and the MTU', () => {
    const info = withSubnets({
      dns: [{ address: '10.0.0.53', type: 'dns', version: 4, meta: {} }],
      routes: [
        { cidr: '10.9.0.0/20', gateway: { address: '10.77.0.9', type: 'gateway', version: 4, meta: {} } },
      ],
    });
    const services = [{ type: 'dns', address: '10.0.0.53' }];
    expect(networkData(info)).toMatchObject({
      links: [{ mtu: 1450 }],
      networks: [
        {
          type: 'ipv4',
          ip_address: '10.77.0.17',
          netmask: '255.255.255.0',
          routes: [
            { network: '0.0.0.0', netmask: '0.0.0.0', gateway: '10.77.0.1' },
            { network: '10.9.0.0', netmask: '255.255.240.0', gateway: '10.77.0.9' },
          ],
          services,
        },
      ],
      services,
    });
  });

  test.each([
    ['2001:db8::/64', 'ffff:ffff:ffff:ffff::'],
    ['2001:db8::/50', 'ffff:ffff:ffff:c000::'],
    ['2001:db8::/112', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:0'],
    ['2001:db8::1/128', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ])('IPv6 beside IPv4, %s', (cidr, netmask) => {
    const v6 = {
      version: 6,
      cidr,
      gateway: null,
      ips: [{ address: '2001:db8::5', type: 'fixed', version: 6, meta: {}, floating_ips: [] }],
      meta: { ipv6_address_mode: 'slaac', dhcp_server: '2001:db8::2' },
    };
    expect(networkData(withSubnets(v6, {}))).toMatchObject({
      networks: [
        { id: 'network0', type: 'ipv4' },
        { id: 'network1', type: 'ipv6_slaac', ip_address: '2001:db8::5', netmask, routes: [] },
      ],
    });
  });

  test('a NIC without a subnet, and a server without a NIC', () => {
    expect(networkData(withSubnets())).toEqual({ links: [], networks: [], services: [] });
    expect(networkData([])).toEqual({});
  });

  test('a kind of NIC that guests do not know is a physical one', () => {
    expect(networkData([{ ...nic, type: 'hostdev_physical', devname: null }])).toMatchObject({
      links: [{ id: 'interface0', type: 'phy' }],
    });
  });
});

describe('meta_data.json', () => {
  test('has what each version of the metadata has', () => {
    expect(read({}, 'openstack/2012-08-10/meta_data.json')).toEqual({
      uuid: '670ec4e9-53c3-41c8-964d-f2a95d9dba70',
      meta: { k: 'v' },
      hostname: 'ref1.novalocal',
      name: 'ref1',
      launch_index: 0,
      availability_zone: 'nova',
    });
    expect(read({}, 'openstack/latest/meta_data.json')).toMatchObject({
      random_seed: expect.stringMatching(/^[A-Za-z0-9+/]{683}=$/) as string,
      project_id: recordedCreate.instance['nova_object.data']['project_id'],
      devices: [],
      dedicated_cpus: [],
    });
  });

  test('seeds every server differently, whatever the version that is read', () => {
    const seeds = identify()
      .files.filter((file) => file.path.endsWith('meta_data.json'))
      .map((file) => (JSON.parse(file.content.toString()) as { random_seed?: string }).random_seed);
    expect(new Set(seeds.slice(1)).size).toBe(1);
    const again = read({}, 'openstack/latest/meta_data.json') as { random_seed?: string };
    expect(again.random_seed).not.toBe(seeds.at(-1));
  });

  test('has the key, the password, injected files and the domain that were asked for', () => {
    const keyed = instance({
      key_name: 'mine',
      keypairs: keys({ name: 'mine', type: 'ssh', public_key: 'ssh-ed25519 AAAA me\n' }),
    });
    const injectedFiles = [{ path: '/etc/motd', content: Buffer.from('hello') }];
    const request = { instance: keyed, adminPassword: 'pw', injectedFiles, dhcpDomain: '' };
    expect(read(request, 'openstack/latest/meta_data.json')).toMatchObject({
      hostname: 'ref1',
      admin_pass: 'pw',
      public_keys: { mine: 'ssh-ed25519 AAAA me\n' },
      keys: [{ name: 'mine', type: 'ssh', data: 'ssh-ed25519 AAAA me\n' }],
      files: [{ path: '/etc/motd', content_path: '/content/0000' }],
    });
    const { files, publicKeys, adminPassword } = identify(request);
    expect(files.find(({ path }) => path === 'openstack/content/0000')?.content.toString()).toBe('hello');
    expect({ publicKeys, adminPassword }).toEqual({
      publicKeys: ['ssh-ed25519 AAAA me'],
      adminPassword: 'pw',
    });
  });

  test('a certificate is no SSH key', () => {
    const keyed = instance({
      key_name: 'win',
      keypairs: keys({ name: 'win', type: 'x509', public_key: 'MIIB' }),
    });
    expect(identify({ instance: keyed }).publicKeys).toEqual([]);
  });
});

test('the drive has the files of every version and no others', () => {
  const user = instance({ user_data: Buffer.from('#!/bin/sh\n').toString('base64') });
  const { files, userData } = identify({ instance: user, vendorData: { region: 'x' } });
  expect(userData?.toString()).toBe('#!/bin/sh\n');
  const of = (version: string) =>
    files
      .map(({ path }) => path.split('/'))
      .flatMap(([kind, v, name]) => (kind === 'openstack' && v === version ? [name] : []));
  expect(of('2012-08-10')).toEqual(['meta_data.json', 'user_data']);
  expect(of('2015-10-15')).toEqual(['meta_data.json', 'user_data', 'vendor_data.json', 'network_data.json']);
  expect(of('latest')).toEqual([
    'meta_data.json',
    'user_data',
    'vendor_data.json',
    'network_data.json',
    'vendor_data2.json',
  ]);
  const vendorData2 = files.find(({ path }) => path === 'openstack/latest/vendor_data2.json');
  expect(JSON.parse(vendorData2?.content.toString() ?? '')).toEqual({ static: { region: 'x' } });
  expect(files.every(({ path }) => /^(openstack|ec2)\//.test(path))).toBe(true);
});

test.each([
  ['nobody', {}, false, false],
  ['the user', { config_drive: 'True' }, false, true],
  ['the operator', {}, true, true],
  ['the operator, of a server that has lived without', { launched_at: '2026-11-22T12:59:36Z' }, true, false],
  ['the image', { system_metadata: { image_img_config_drive: 'mandatory' } }, false, true],
])('a config drive is wanted by %s', (_who, changes, forceConfigDrive, wanted) => {
  expect(identify({ instance: instance(changes), forceConfigDrive }).configDrive).toBe(wanted);
});

describe('ec2 metadata', () => {
  test('which disk is what', () => {
    expect(blockDeviceMapping({ ephemeralGb: 0, swapMb: 64 }, 'vd')).toEqual({
      ami: 'vda',
      root: '/dev/vda',
      swap: '/dev/vdb',
    });
    expect(blockDeviceMapping({ ephemeralGb: 1, swapMb: 64 }, 'sd')).toMatchObject({
      ephemeral0: '/dev/sdb',
      swap: '/dev/sdc',
    });
  });

  test('is where cloud-init looks for it', () => {
    for (const version of ['2009-04-04', 'latest']) {
      expect(read({}, `ec2/${version}/meta-data.json`)).toEqual({
        'block-device-mapping': { ami: 'vda', root: '/dev/vda' },
      });
    }
  });
});
