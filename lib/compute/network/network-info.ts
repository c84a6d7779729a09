/**
 * From Neutron's records to the description of a server's network that Nova keeps and its drivers plug
 * (nova/network/neutron.py, _build_vif_model and what it calls). Pure: reads nothing, decides nothing.
 */
import { isIPv6 } from 'node:net';
import type { Network, NetworkInfo, Subnet, Vif } from '../../objects';
import type { NeutronFloatingIp, NeutronNetwork, NeutronPort, NeutronSubnet } from '../../openstack';

/** Everything a description is made from. */
export interface NetworkRecords {
  /** In the order of the server's NICs. */
  readonly ports: readonly NeutronPort[];
  readonly networks: readonly NeutronNetwork[];
  readonly subnets: readonly NeutronSubnet[];
  /** Ports of DHCP servers on these networks. */
  readonly dhcpPorts: readonly NeutronPort[];
  readonly floatingIps: readonly NeutronFloatingIp[];
  /** Ports that are the user's own. */
  readonly preservedPortIds: ReadonlySet<string>;
}

/** Longest name of a network interface that leaves room for what agents append. */
const NIC_NAME_LENGTH = 14;
const TUNNEL_TYPES = new Set(['vxlan', 'gre', 'geneve']);
const OVS_BRIDGE = 'br-int';

/** Describes the NICs in the order of `records.ports`. */
export function buildNetworkInfo(records: NetworkRecords): NetworkInfo {
  return records.ports.map((port) => buildVif(port, records));
}

function buildVif(port: NeutronPort, records: NetworkRecords): Vif {
  const vifType = port['binding:vif_type'] ?? null;
  const details = port['binding:vif_details'] ?? {};
  return {
    id: port.id,
    address: port.mac_address,
    network: buildNetwork(port, records),
    type: vifType,
    details,
    devname: `tap${port.id}`.slice(0, NIC_NAME_LENGTH),
    ovs_interfaceid: usesOvs(vifType, details) ? port.id : null,
    qbh_params: null,
    qbg_params: null,
    active: !port.admin_state_up || port.status === 'ACTIVE',
    vnic_type: port['binding:vnic_type'] ?? 'normal',
    profile: port['binding:profile'] ?? {},
    preserve_on_delete: records.preservedPortIds.has(port.id),
    delegate_create: true,
    meta: {},
  };
}

function buildNetwork(port: NeutronPort, records: NetworkRecords): Network {
  const network = records.networks.find(({ id }) => id === port.network_id);
  const vifType = port['binding:vif_type'] ?? null;
  const { physicalNetwork, tunneled } = segmentOf(network);
  return {
    id: port.network_id,
    bridge: bridgeOf(port, vifType),
    label: network?.name ?? null,
    subnets: records.subnets
      .filter((subnet) => port.fixed_ips.some((ip) => ip.subnet_id === subnet.id))
      .map((subnet) => buildSubnet(subnet, port, records)),
    meta: {
      injected: false,
      tenant_id: network?.tenant_id ?? port.tenant_id,
      mtu: network?.mtu ?? null,
      physical_network: physicalNetwork,
      tunneled,
      ...(vifType === 'bridge' ? { should_create_bridge: true } : {}),
    },
  };
}

function buildSubnet(subnet: NeutronSubnet, port: NeutronPort, records: NetworkRecords): Subnet {
  // Without a DHCP port yet, or with a foreign DHCP server, the gateway stands in: the address itself hardly matters,
  // that there is one makes the metadata say "DHCP".
  const dhcpServer =
    dhcpServerOf(subnet, records.dhcpPorts) ?? (subnet.enable_dhcp ? subnet.gateway_ip : undefined);
  const mode = subnet.ipv6_address_mode;
  return {
    cidr: subnet.cidr,
    dns: [...new Set(subnet.dns_nameservers)].map((address) => buildIp(address, 'dns')),
    gateway: buildIp(subnet.gateway_ip ?? null, 'gateway'),
    ips: port.fixed_ips
      .filter((ip) => ip.subnet_id === subnet.id)
      .map(({ ip_address: address }) => ({
        ...buildIp(address, 'fixed'),
        address,
        floating_ips: records.floatingIps
          .filter((floating) => floating.port_id === port.id && floating.fixed_ip_address === address)
          .map((floating) => buildIp(floating.floating_ip_address, 'floating')),
      })),
    routes: subnet.host_routes.map((route) => ({
      cidr: route.destination,
      gateway: buildIp(route.nexthop, 'gateway'),
      interface: null,
      meta: {},
    })),
    version: subnet.ip_version,
    meta: {
      ...(mode === null || mode === undefined ? {} : { ipv6_address_mode: mode }),
      ...(dhcpServer === undefined ? {} : { dhcp_server: dhcpServer }),
    },
  };
}

function buildIp(address: string | null, type: string) {
  return { address, type, version: address === null ? null : isIPv6(address) ? 6 : 4, meta: {} };
}

function dhcpServerOf(subnet: NeutronSubnet, dhcpPorts: readonly NeutronPort[]): string | undefined {
  return dhcpPorts.flatMap((port) => port.fixed_ips).find((ip) => ip.subnet_id === subnet.id)?.ip_address;
}

function bridgeOf(port: NeutronPort, vifType: string | null): string | null {
  const details = port['binding:vif_details'] ?? {};
  const named = typeof details['bridge_name'] === 'string' ? details['bridge_name'] : undefined;
  if (usesOvs(vifType, details)) return (named ?? OVS_BRIDGE).slice(0, NIC_NAME_LENGTH);
  if (vifType === 'bridge') return (named ?? `brq${port.network_id}`).slice(0, NIC_NAME_LENGTH);
  return null;
}

function usesOvs(vifType: string | null, details: Readonly<Record<string, unknown>>): boolean {
  return vifType === 'ovs' || (vifType === 'vhostuser' && details['vhostuser_ovs_plug'] === true);
}

/** Of a network of several segments, the first that has a physical network counts. */
function segmentOf(network: NeutronNetwork | undefined): {
  physicalNetwork: string | null;
  tunneled: boolean;
} {
  if (network === undefined) return { physicalNetwork: null, tunneled: false };
  const segments = network.segments ?? [network];
  const physical = segments.find((segment) => segment['provider:physical_network'])?.[
    'provider:physical_network'
  ];
  const tunneled = segments.some((segment) => TUNNEL_TYPES.has(segment['provider:network_type'] ?? ''));
  return { physicalNetwork: physical ?? null, tunneled: physical === undefined && tunneled };
}
