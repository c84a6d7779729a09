/**
 * Which networks, ports and security groups a new server gets: reads and judges, changes nothing
 * (nova/network/neutron.py, _validate_requested_port_ids and its neighbours).
 */
import { NetworkNotFound, PortInUse, PortNotFound } from '../../exceptions';
import { isHttpError, type Neutron, type NeutronNetwork, type NeutronPort } from '../../openstack';
import {
  ExternalNetworkAttachForbidden,
  NetworkAmbiguous,
  NoUniqueMatch,
  PortNotUsable,
  PortNotUsableDNS,
  SecurityGroupCannotBeApplied,
  SecurityGroupNotFound,
  UnableToAutoAllocateNetwork,
} from './exceptions';
import { requireBound } from './port-errors';
import type { RequestedNetworks, RequestedNic } from './requested';

/** One NIC to be: a port of the user's to bind, or one to make on the network. */
export interface PlannedNic {
  readonly network: NeutronNetwork;
  readonly port: NeutronPort | null;
  readonly address: string | null;
}

/** For whom networks are chosen. */
export interface SelectionRequest {
  readonly instanceUuid: string;
  readonly projectId: string;
  readonly hostname: string;
  /** Whether the user is an admin, who alone may attach a server to an external network. */
  readonly isAdmin: boolean;
  readonly signal: AbortSignal;
}

/**
 * The NICs in the order they were asked for.
 * @param neutron as this service, `visible` as the user: only networks the user may see are taken
 */
export async function planNics(
  neutron: Neutron,
  visible: Neutron,
  requested: RequestedNetworks,
  request: SelectionRequest,
): Promise<readonly PlannedNic[]> {
  const planned =
    requested.kind === 'these'
      ? await planThese(neutron, visible, requested.nics, request)
      : await planOnly(visible, requested.kind, request);
  for (const { network } of planned) {
    if (network['router:external'] && !network.shared && !request.isAdmin) {
      throw new ExternalNetworkAttachForbidden(
        `It is not allowed to create an interface on external network ${network.id}`,
      );
    }
  }
  return planned;
}

/** Ids of the groups named by id or name; Neutron gives `default` to a port by itself. */
export async function securityGroupIds(
  neutron: Neutron,
  names: readonly string[],
  request: SelectionRequest,
): Promise<readonly string[]> {
  if (names.every((name) => name === 'default')) return [];
  const groups = await neutron.listSecurityGroups({ tenant_id: request.projectId }, request.signal);
  return names.map((name) => {
    const named = groups.filter((group) => group.name === name);
    if (named.length > 1) {
      throw new NoUniqueMatch(
        `Multiple security groups found matching '${name}'. Use an ID to be more specific.`,
      );
    }
    const found = named[0] ?? groups.find((group) => group.id === name);
    if (found === undefined) throw new SecurityGroupNotFound(`Security group ${name} not found.`);
    return found.id;
  });
}

/** @throws SecurityGroupCannotBeApplied */
export function requireSecurityGroupsFit(nics: readonly PlannedNic[], groupIds: readonly string[]): void {
  for (const { network } of nics) {
    const fits = network.port_security_enabled ? network.subnets.length > 0 : groupIds.length === 0;
    if (fits) continue;
    throw new SecurityGroupCannotBeApplied(
      `Network ${network.id} requires port_security_enabled and subnet associated in order to apply security groups.`,
    );
  }
}

async function planThese(
  neutron: Neutron,
  visible: Neutron,
  nics: readonly RequestedNic[],
  request: SelectionRequest,
): Promise<readonly PlannedNic[]> {
  const ports = new Map<string, NeutronPort>();
  for (const { portId } of nics) {
    if (portId !== null) ports.set(portId, await usablePort(neutron, portId, request));
  }
  const asked = [...new Set(nics.flatMap((nic) => (nic.portId === null ? [nic.networkId] : [])))];
  const ofPorts = [...new Set([...ports.values()].map((port) => port.network_id))];
  const networks = [
    ...(await visible.listNetworks({ id: asked }, request.signal)),
    ...(await neutron.listNetworks({ id: ofPorts }, request.signal)),
  ];
  return nics.map((nic) => {
    const port = nic.portId === null ? null : (ports.get(nic.portId) ?? null);
    const networkId = nic.portId === null ? nic.networkId : port?.network_id;
    const network = networks.find(({ id }) => id === networkId);
    if (network === undefined) throw new NetworkNotFound(`Network ${networkId ?? ''} could not be found.`);
    return { network, port, address: nic.portId === null ? nic.address : null };
  });
}

async function usablePort(neutron: Neutron, portId: string, request: SelectionRequest): Promise<NeutronPort> {
  const port = await neutron.findPort(portId, request.signal);
  if (port === null) throw new PortNotFound(`Port id ${portId} could not be found.`);
  if (port.tenant_id !== request.projectId) {
    throw new PortNotUsable(`Port ${portId} not usable for instance ${request.instanceUuid}.`);
  }
  // A port that carries this server's id was bound by an attempt at this same boot.
  if (port.device_id !== '' && port.device_id !== request.instanceUuid) {
    throw new PortInUse(`Port ${portId} is still in use.`);
  }
  const dnsName = port.dns_name ?? '';
  if (dnsName !== '' && dnsName !== request.hostname) {
    throw new PortNotUsableDNS(
      `Port ${portId} not usable for instance ${request.instanceUuid}. Value ${dnsName} assigned to dns_name ` +
        `attribute does not match instance's hostname ${request.hostname}`,
    );
  }
  return requireBound(port);
}

/** The project's only network; none at all is fine unless one shall be made. */
async function planOnly(
  visible: Neutron,
  kind: 'none' | 'any' | 'auto',
  request: SelectionRequest,
): Promise<readonly PlannedNic[]> {
  if (kind === 'none') return [];
  const { projectId, signal } = request;
  const up = kind === 'auto' ? { admin_state_up: 'True' } : {};
  const [own, shared] = await Promise.all([
    visible.listNetworks({ tenant_id: projectId, shared: 'False', ...up }, signal),
    visible.listNetworks({ shared: 'True' }, signal),
  ]);
  const networks = [...own, ...shared];
  if (networks.length > 1) {
    throw new NetworkAmbiguous('Multiple possible networks found, use a Network ID to be more specific.');
  }
  if (networks.length === 0 && kind === 'auto') networks.push(await autoAllocate(visible, request));
  return networks.map((network) => ({ network, port: null, address: null }));
}

async function autoAllocate(visible: Neutron, request: SelectionRequest): Promise<NeutronNetwork> {
  try {
    const id = await visible.autoAllocateNetwork(request.projectId, request.signal);
    const [network] = await visible.listNetworks({ id: [id] }, request.signal);
    if (network !== undefined) return network;
  } catch (error) {
    if (!isHttpError(error, 404, 409)) throw error;
    throw new UnableToAutoAllocateNetwork(
      `Unable to automatically allocate a network for project ${request.projectId}`,
      {
        cause: error,
      },
    );
  }
  throw new UnableToAutoAllocateNetwork(
    `Unable to automatically allocate a network for project ${request.projectId}`,
  );
}
