/** Neutron's records become the network that Nova keeps, as nova-compute made it of the same records. */
import { buildNetworkInfo, requestedNetworks, type NetworkRecords } from '../../lib/compute/network';
import { deserialise, type NovaObject } from '../../lib/objects';
import { NetworkRecord, PortRecord, SubnetRecord } from '../../lib/openstack/neutron-records';
import { recordedCreate } from '../support/recorded';
import { requestList } from '../support/requested-networks';

const network = NetworkRecord.parse(recordedCreate.network);
const subnet = SubnetRecord.parse(recordedCreate.subnet);
const port = PortRecord.parse(recordedCreate.port);

function records(changes: Partial<NetworkRecords> = {}): NetworkRecords {
  return {
    ports: [port],
    networks: [network],
    subnets: [subnet],
    dhcpPorts: [],
    floatingIps: [],
    preservedPortIds: new Set(),
    ...changes,
  };
}

test('a Linux bridge port is described as nova-compute described it', () => {
  expect(buildNetworkInfo(records())).toEqual(recordedCreate.networkInfo);
});

test('keeps the order of the ports and whose they are', () => {
  const other = { ...port, id: 'ffffffff-0000-4000-8000-000000000000' };
  const info = buildNetworkInfo(records({ ports: [other, port], preservedPortIds: new Set([port.id]) }));
  expect(info.map((vif) => [vif.id, vif.preserve_on_delete])).toEqual([
    [other.id, false],
    [port.id, true],
  ]);
});

test('names the DHCP server, name servers, routes and floating addresses', () => {
  const dhcp = { ...port, fixed_ips: [{ subnet_id: subnet.id, ip_address: '10.77.0.2' }] };
  const [vif] = buildNetworkInfo(
    records({
      dhcpPorts: [dhcp],
      subnets: [
        {
          ...subnet,
          gateway_ip: null,
          dns_nameservers: ['10.0.0.53', '10.0.0.53', 'fd00::53'],
          host_routes: [{ destination: '10.9.0.0/16', nexthop: '10.77.0.9' }],
        },
      ],
      floatingIps: [
        { floating_ip_address: '203.0.113.7', fixed_ip_address: '10.77.0.17', port_id: port.id },
        { floating_ip_address: '203.0.113.8', fixed_ip_address: '10.77.0.17', port_id: 'of another' },
      ],
    }),
  );
  expect(vif?.network.subnets).toEqual([
    {
      cidr: '10.77.0.0/24',
      version: 4,
      gateway: { address: null, type: 'gateway', version: null, meta: {} },
      dns: [
        { address: '10.0.0.53', type: 'dns', version: 4, meta: {} },
        { address: 'fd00::53', type: 'dns', version: 6, meta: {} },
      ],
      routes: [
        {
          cidr: '10.9.0.0/16',
          gateway: { address: '10.77.0.9', type: 'gateway', version: 4, meta: {} },
          interface: null,
          meta: {},
        },
      ],
      ips: [
        {
          address: '10.77.0.17',
          type: 'fixed',
          version: 4,
          meta: {},
          floating_ips: [{ address: '203.0.113.7', type: 'floating', version: 4, meta: {} }],
        },
      ],
      meta: { dhcp_server: '10.77.0.2' },
    },
  ]);
});

test('an Open vSwitch port hangs on the integration bridge or the one Neutron names', () => {
  const bridgeOf = (details: Readonly<Record<string, unknown>>) => {
    const ovs = { ...port, 'binding:vif_type': 'ovs', 'binding:vif_details': details };
    const [vif] = buildNetworkInfo(records({ ports: [ovs] }));
    return { bridge: vif?.network.bridge, interfaceId: vif?.ovs_interfaceid, meta: vif?.network.meta };
  };
  expect(bridgeOf({})).toMatchObject({ bridge: 'br-int', interfaceId: port.id });
  expect(bridgeOf({}).meta).not.toHaveProperty('should_create_bridge');
  expect(bridgeOf({ bridge_name: 'br-a-very-long-name' }).bridge).toBe('br-a-very-long');
});

test.each([
  [{ 'provider:network_type': 'flat', 'provider:physical_network': 'physnet1' }, 'physnet1', false],
  [{ 'provider:network_type': 'geneve', 'provider:physical_network': null }, null, true],
  [
    {
      segments: [
        { 'provider:network_type': 'vxlan', 'provider:physical_network': null },
        { 'provider:network_type': 'vlan', 'provider:physical_network': 'physnet2' },
      ],
    },
    'physnet2',
    false,
  ],
])('knows the physical network of %j', (provider, physical_network, tunneled) => {
  const [vif] = buildNetworkInfo(records({ networks: [{ ...network, ...provider }] }));
  expect(vif?.network.meta).toMatchObject({ physical_network, tunneled });
});

test('a port that is down for good counts as plugged, one that waits does not', () => {
  const active = (changes: Partial<typeof port>) =>
    buildNetworkInfo(records({ ports: [{ ...port, ...changes }] }))[0]?.active;
  expect(active({ status: 'DOWN' })).toBe(false);
  expect(active({ status: 'ACTIVE' })).toBe(true);
  expect(active({ admin_state_up: false })).toBe(true);
});

describe('what a boot request says about networks', () => {
  test('is read as recorded', () => {
    const recorded = deserialise(recordedCreate.requestedNetworks) as NovaObject;
    expect(requestedNetworks(recorded)).toEqual({
      kind: 'these',
      nics: [{ networkId: network.id, address: null, portId: null, tag: null }],
    });
  });

  test.each([
    ['nothing at all', null, { kind: 'any' }],
    ['an empty list', requestList(), { kind: 'any' }],
    ['a NIC without wishes', requestList({}), { kind: 'any' }],
    ['none', requestList({ network_id: 'none' }), { kind: 'none' }],
    ['auto', requestList({ network_id: 'auto' }), { kind: 'auto' }],
    [
      'a port and an address',
      requestList({ port_id: 'p', network_id: 'n', tag: 'lan' }, { network_id: 'n', address: '10.0.0.9' }),
      {
        kind: 'these',
        nics: [
          { portId: 'p', tag: 'lan' },
          { networkId: 'n', address: '10.0.0.9', portId: null, tag: null },
        ],
      },
    ],
  ])('%s', (_what, request, expected) => {
    expect(requestedNetworks(request)).toEqual(expected);
  });
});
