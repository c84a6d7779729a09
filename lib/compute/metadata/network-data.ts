/**
 * `network_data.json` of a config drive: a server's network in the form that guests read (nova/virt/netutils.py,
 * get_network_metadata). As there, the first IPv4 and the first IPv6 subnet of a NIC count.
 */
import type { NetworkInfo, Subnet, Vif } from '../../objects';

interface Link {
  readonly id: string;
  readonly vif_id: string;
  readonly type: string;
  readonly mtu: number | null;
  readonly ethernet_mac_address: string;
}

interface DnsService {
  readonly type: 'dns';
  readonly address: string;
}

interface Route {
  readonly network: string;
  readonly netmask: string;
  readonly gateway: string;
}

interface GuestNetwork {
  readonly id: string;
  readonly type: string;
  readonly link: string;
  readonly network_id: string;
  readonly ip_address?: string;
  readonly netmask?: string;
  readonly routes?: readonly Route[];
  readonly services?: readonly DnsService[];
}

/** The document; empty for a server without NICs, as Nova writes it. */
export type NetworkData =
  | Readonly<Record<string, never>>
  | {
      readonly links: readonly Link[];
      readonly networks: readonly GuestNetwork[];
      readonly services: readonly DnsService[];
    };

/** VIF types that guests may know by name; every other one is a physical NIC to them. */
const EXPOSED_VIF_TYPES = new Set(['bridge', 'ovs', 'dvs', 'hw_veb', 'hyperv', 'tap', 'vhostuser', 'vif']);

export function networkData(networkInfo: NetworkInfo): NetworkData {
  if (networkInfo.length === 0) return {};
  const links: Link[] = [];
  const networks: GuestNetwork[] = [];
  const services: DnsService[] = [];
  for (const vif of networkInfo) {
    const subnets = [4, 6].map((version) => vif.network.subnets.find((subnet) => subnet.version === version));
    if (subnets.every((subnet) => subnet === undefined)) continue;
    const link = linkOf(vif, links.length);
    links.push(link);
    for (const subnet of subnets) {
      if (subnet === undefined || subnet.ips.length === 0) continue;
      networks.push(guestNetwork(vif, subnet, `network${networks.length}`, link.id));
      for (const service of dnsOf(subnet)) {
        if (!services.some(({ address }) => address === service.address)) services.push(service);
      }
    }
  }
  return { links, networks, services };
}

function linkOf(vif: Vif, index: number): Link {
  // A guest behind DHCP learns the MTU there.
  const byDhcp = vif.network.subnets.some((subnet) => Boolean(subnet.meta?.dhcp_server));
  return {
    id: vif.devname ?? `interface${index}`,
    vif_id: vif.id,
    type: vif.type !== null && EXPOSED_VIF_TYPES.has(vif.type) ? vif.type : 'phy',
    mtu: byDhcp ? null : (vif.network.meta.mtu ?? null),
    ethernet_mac_address: vif.address,
  };
}

function guestNetwork(vif: Vif, subnet: Subnet, id: string, link: string): GuestNetwork {
  const version = subnet.version === 6 ? 6 : 4;
  const base = { id, link, network_id: vif.network.id };
  const mode = subnet.meta?.['ipv6_address_mode'];
  if (typeof mode !== 'string' && typeof subnet.meta?.dhcp_server === 'string') {
    return { ...base, type: `ipv${version}_dhcp` };
  }
  const routes = [...defaultRoute(subnet, version), ...subnet.routes.flatMap((route) => hostRoute(route))];
  return {
    ...base,
    type: typeof mode === 'string' ? `ipv${version}_${mode}` : `ipv${version}`,
    ip_address: subnet.ips[0]?.address ?? '',
    netmask: netmask(prefixOf(subnet.cidr ?? ''), version),
    routes,
    services: dnsOf(subnet),
  };
}

function defaultRoute(subnet: Subnet, version: 4 | 6): Route[] {
  const gateway = subnet.gateway?.address;
  if (gateway === null || gateway === undefined) return [];
  const any = version === 4 ? '0.0.0.0' : '::';
  return [{ network: any, netmask: any, gateway }];
}

function hostRoute(route: Subnet['routes'][number]): Route[] {
  const gateway = route.gateway?.address;
  const [network] = route.cidr?.split('/') ?? [];
  if (network === undefined || gateway === null || gateway === undefined) return [];
  return [{ network, netmask: netmask(prefixOf(route.cidr ?? ''), network.includes(':') ? 6 : 4), gateway }];
}

function dnsOf(subnet: Subnet): DnsService[] {
  return subnet.dns.flatMap(({ address }) =>
    typeof address === 'string' ? [{ type: 'dns' as const, address }] : [],
  );
}

function prefixOf(cidr: string): number {
  return Number(cidr.split('/')[1] ?? (cidr.includes(':') ? 128 : 32));
}

/** 24 -> 255.255.255.0; 64 -> ffff:ffff:ffff:ffff:: */
function netmask(prefixLength: number, version: 4 | 6): string {
  const [groupBits, groups] = version === 4 ? [8, 4] : [16, 8];
  const values = Array.from({ length: groups }, (_, index) => {
    const bits = Math.min(Math.max(prefixLength - index * groupBits, 0), groupBits);
    return 2 ** groupBits - 2 ** (groupBits - bits);
  });
  if (version === 4) return values.join('.');
  const words = values.map((value) => value.toString(16));
  const zeros = values.filter((value) => value === 0).length;
  // A single zero word is not worth the double colon.
  return zeros < 2 ? words.join(':') : `${words.slice(0, groups - zeros).join(':')}::`;
}
