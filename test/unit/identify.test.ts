/** The message that makes a clone someone, from the records that Nova and Neutron keep. */
import type { InstanceIdentity } from '../../drivers/driver';
import type { NetworkInfo } from '../../lib/objects';
import { buildIdentifyMessage } from '../../lib/bake/identify';

const RESOURCES = { vcpus: 4, hotplugMemoryMb: 1024, rootBytes: 10 * 2 ** 30, disks: [] };
const IDENTITY: InstanceIdentity = {
  uuid: '6a3c1f0e-1f6b-4c3a-9f57-0d7b8c3f2a11',
  hostname: 'web.example',
  publicKeys: ['ssh-rsa AAAA one\n', ' ssh-rsa BBBB two'],
  adminPassword: null,
  userData: null,
  files: [{ path: 'openstack/latest/meta_data.json', content: Buffer.from('{}') }],
  configDrive: true,
};

function vif(overrides: Record<string, unknown> = {}): NetworkInfo[number] {
  return {
    id: 'port',
    address: 'FA:16:3E:00:00:07',
    type: 'bridge',
    devname: 'tap0',
    active: true,
    preserve_on_delete: false,
    network: {
      id: 'network',
      bridge: 'brq0',
      meta: { mtu: 1450 },
      subnets: [
        {
          cidr: '10.77.0.0/24',
          version: 4,
          dns: [{ address: '10.77.0.1' }, { address: '10.77.0.1' }],
          gateway: { address: '10.77.0.1' },
          ips: [{ address: '10.77.0.7' }, { address: '10.77.0.8' }],
          routes: [
            { cidr: '192.168.0.0/16', gateway: { address: '10.77.0.9' } },
            { cidr: null, gateway: null },
          ],
          ...overrides,
        },
      ],
    },
  };
}

function assigned(sh: string): string {
  return Buffer.from(sh, 'base64').toString();
}

describe('buildIdentifyMessage', () => {
  it('gives each interface its addresses with prefix, routes and servers', () => {
    const { interfaces } = buildIdentifyMessage(IDENTITY, [vif()], RESOURCES);
    expect(interfaces).toEqual([
      {
        mac: 'fa:16:3e:00:00:07',
        mtu: 1450,
        addresses: ['10.77.0.7/24', '10.77.0.8/24'],
        dhcp4: false,
        dhcp6: false,
        routes: [
          { to: '0.0.0.0/0', via: '10.77.0.1' },
          { to: '192.168.0.0/16', via: '10.77.0.9' },
        ],
        dns: ['10.77.0.1'],
      },
    ]);
  });

  it('knows subnets with DHCP and without a gateway', () => {
    const network = [vif({ gateway: { address: null }, routes: [], meta: { dhcp_server: '10.77.0.2' } })];
    const { interfaces } = buildIdentifyMessage(IDENTITY, network, RESOURCES);
    expect(interfaces[0]).toMatchObject({ dhcp4: true, dhcp6: false, routes: [] });
  });

  it('keeps IPv6 apart', () => {
    const network = [
      vif({
        cidr: '2001:db8::/64',
        version: 6,
        gateway: { address: '2001:db8::1' },
        ips: [{ address: '2001:db8::7' }],
        routes: [],
        meta: { dhcp_server: '2001:db8::2' },
      }),
    ];
    const { interfaces } = buildIdentifyMessage(IDENTITY, network, RESOURCES);
    expect(interfaces[0]).toMatchObject({
      addresses: ['2001:db8::7/64'],
      dhcp4: false,
      dhcp6: true,
      routes: [{ to: '::/0', via: '2001:db8::1' }],
    });
  });

  it('brings the files of the drive only to a clone without one', () => {
    expect(buildIdentifyMessage(IDENTITY, [], RESOURCES).seed).toBeNull();
    const { seed } = buildIdentifyMessage({ ...IDENTITY, configDrive: false }, [], RESOURCES);
    expect(seed).toEqual({ 'openstack/latest/meta_data.json': Buffer.from('{}').toString('base64') });
  });

  it('says the same for shells, with user data only if it is a script', () => {
    const { sh } = buildIdentifyMessage(IDENTITY, [vif()], RESOURCES);
    expect(assigned(sh)).toContain("public_keys='ssh-rsa AAAA one\nssh-rsa BBBB two'");
    expect(assigned(sh)).toContain(
      "interfaces='fa:16:3e:00:00:07 1450 static 10.77.0.7/24,10.77.0.8/24 0.0.0.0/0=10.77.0.1,192.168.0.0/16=10.77.0.9 10.77.0.1'",
    );
    expect(assigned(sh)).toContain("user_data=''");
    const cloudConfig = { ...IDENTITY, userData: Buffer.from('#cloud-config\n') };
    expect(assigned(buildIdentifyMessage(cloudConfig, [], RESOURCES).sh)).toContain("user_data=''");
    const script = { ...IDENTITY, userData: Buffer.from('#!/bin/sh\n') };
    expect(assigned(buildIdentifyMessage(script, [], RESOURCES).sh)).toContain(
      "user_data='IyEvYmluL3NoCg=='",
    );
  });

  it('puts what shells read in front of everything a user wrote', () => {
    expect(Object.keys(buildIdentifyMessage(IDENTITY, [], RESOURCES))[0]).toBe('sh');
  });
});
