/**
 * The networks of a server from its boot to its end: ports made, bound to this host, described, let go
 * (nova/network/neutron.py, allocate_for_instance and deallocate_for_instance). Taps and bridges are not its business.
 */
import type { Logger } from 'pino';
import { describeError } from '../../exceptions';
import type { NetworkInfo, NovaObject, Vif } from '../../objects';
import type { Neutron, NeutronPort } from '../../openstack';
import { GroupedRead } from './grouped-read';
import { buildNetworkInfo, type NetworkRecords } from './network-info';
import { portCall, requireBound } from './port-errors';
import { requestedNetworks, requestedPortIds, type RequestedNetworks } from './requested';
import {
  planNics,
  requireSecurityGroupsFit,
  securityGroupIds,
  type PlannedNic,
  type SelectionRequest,
} from './selection';

/** The server whose networks these are; Nova's Instance fits. */
export interface NetworkedServer {
  readonly uuid: string;
  readonly projectId: string;
}

/** In whose name networks are chosen. */
export interface Requester {
  /** Null when the request carries none; then this service looks in its own name. */
  readonly authToken: string | null;
  readonly isAdmin: boolean;
}

/** What a boot request says. */
export interface AllocationRequest {
  readonly instanceUuid: string;
  readonly projectId: string;
  readonly hostname: string;
  readonly availabilityZone: string | null;
  /** NetworkRequestList */
  readonly requestedNetworks: NovaObject | null;
  /** Names or ids. */
  readonly securityGroups: readonly string[];
  /** Without it networks are looked for in this service's name, and external ones are refused. */
  readonly requester?: Requester;
  /** Nothing is made or changed before this resolves; what is there is looked at meanwhile. */
  readonly ours?: Promise<void>;
  readonly signal: AbortSignal;
}

/** One more NIC for a server. */
export interface AttachRequest extends Omit<AllocationRequest, 'requestedNetworks'> {
  readonly requested: RequestedNetworks;
}

/** What is the same for all ports of some networks. */
type Surroundings = Pick<NetworkRecords, 'networks' | 'subnets' | 'dhcpPorts'>;

/** Keys of a binding profile that speak of a device of the host the port leaves. */
const HOST_PROFILE_KEYS = new Set(
  'pci_vendor_info pci_slot allocation arq_uuid physical_network card_serial_number vf_num pf_mac_address device_mac_address'.split(
    ' ',
  ),
);
const DNS_EXTENSION = 'dns-integration';

/** Gives servers of this host their networks. */
export class ServerNetworks {
  private readonly neutron: Neutron;
  private readonly host: string;
  private readonly logger: Logger;
  private readonly around = new GroupedRead((ids: string) => this.readSurroundings(ids.split(',')));

  /** @param parts `host` is this compute host's name, which Neutron's agent here goes by as well */
  constructor(parts: { readonly neutron: Neutron; readonly host: string; readonly logger: Logger }) {
    this.neutron = parts.neutron;
    this.host = parts.host;
    this.logger = parts.logger;
  }

  /**
   * Makes and binds the ports of a new server; on failure or abort made ports are deleted and the user's let go.
   * @returns the NICs in the order they were asked for
   * @throws PortBindingFailed, PortNotFound, PortInUse, NetworkNotFound and the exceptions of this folder
   */
  async allocate(request: AllocationRequest): Promise<NetworkInfo> {
    request.ours?.catch(() => undefined);
    const visible = this.inNameOf(request.requester?.authToken ?? null);
    const requested = requestedNetworks(request.requestedNetworks);
    const selection: SelectionRequest = { ...request, isAdmin: request.requester?.isAdmin ?? false };
    const nics = await planNics(this.neutron, visible, requested, selection);
    if (nics.length === 0) return [];
    const groupIds = await securityGroupIds(this.neutron, request.securityGroups, selection);
    requireSecurityGroupsFit(nics, groupIds);
    await request.ours;

    const surroundings = this.surroundings(nics.map(({ network }) => network.id));
    surroundings.catch(() => undefined);
    const attempts = await Promise.allSettled(
      nics.map((nic) => this.connect(nic, groupIds, request, visible)),
    );
    try {
      request.signal.throwIfAborted();
      const ports = attempts.map((attempt) => {
        if (attempt.status === 'rejected') throw attempt.reason;
        return attempt.value;
      });
      const own = requestedPortIds(requested);
      return await this.describe(ports, new Set(own), own, await surroundings);
    } catch (error) {
      await this.undo(request);
      throw error;
    }
  }

  /**
   * Makes or binds one more port of a server that has others; on failure it is deleted or let go again.
   * @param request names one NIC, or nothing for the project's only network
   * @returns the new NIC; null when nothing was named and there is no network
   * @throws as `allocate`
   */
  async attach(request: AttachRequest): Promise<Vif | null> {
    const server = { uuid: request.instanceUuid, projectId: request.projectId };
    const visible = this.inNameOf(request.requester?.authToken ?? null);
    const selection: SelectionRequest = { ...request, isAdmin: request.requester?.isAdmin ?? false };
    const [nic] = await planNics(this.neutron, visible, request.requested, selection);
    if (nic === undefined) return null;
    const groupIds = await securityGroupIds(this.neutron, request.securityGroups, selection);
    requireSecurityGroupsFit([nic], groupIds);
    const before = (await this.portsOf(server)).map((port) => port.id);
    const preserved = requestedPortIds(request.requested);
    try {
      const port = await this.connect(nic, groupIds, request, visible);
      const [vif] = await this.describe(
        [port],
        new Set(preserved),
        preserved,
        await this.surroundings([nic.network.id]),
      );
      return vif ?? null;
    } catch (error) {
      for (const port of (await this.portsOf(server)).filter(({ id }) => !before.includes(id))) {
        await this.detach(server, port.id, preserved.includes(port.id)).catch((failure: unknown) =>
          this.logger.warn(
            { instance_uuid: server.uuid },
            `a port that could not be attached is left: ${describeError(failure)}`,
          ),
        );
      }
      throw error;
    }
  }

  /** Deletes one port of a server, or lets go of it when it is the user's own. Idempotent. */
  async detach(server: NetworkedServer, portId: string, preserve: boolean): Promise<void> {
    const port = (await this.portsOf(server)).find(({ id }) => id === portId);
    if (port === undefined) return;
    await (preserve ? this.unbind(port, this.neutron) : this.neutron.deletePort(portId));
  }

  /**
   * Deletes the ports that were made for a server and lets go of its user's own. Idempotent.
   * @param options `requestedNetworks` when the boot failed before `networkInfo` was known;
   *   `authToken` of the user, who alone can take a name out of an external DNS zone of theirs
   * @throws the first failure, after everything was tried
   */
  async deallocate(
    server: NetworkedServer,
    networkInfo: NetworkInfo,
    options: { readonly requestedNetworks?: NovaObject | null; readonly authToken?: string | null } = {},
  ): Promise<void> {
    const kept = new Set([
      ...networkInfo.filter((vif) => vif.preserve_on_delete).map((vif) => vif.id),
      ...requestedPortIds(requestedNetworks(options.requestedNetworks ?? null)),
    ]);
    const ports = await this.portsOf(server);
    const user = this.inNameOf(options.authToken ?? null);
    const attempts = await Promise.allSettled(
      ports.map((port) => (kept.has(port.id) ? this.unbind(port, user) : this.neutron.deletePort(port.id))),
    );
    for (const attempt of attempts) if (attempt.status === 'rejected') throw attempt.reason;
  }

  /** Describes a server's networks anew: known NICs in their order, then those that were added meanwhile. */
  async refresh(server: NetworkedServer, previous: NetworkInfo, signal?: AbortSignal): Promise<NetworkInfo> {
    const current = await this.portsOf(server, signal);
    return this.describeAgain(current, previous);
  }

  /**
   * Binds the ports a server already has to this host: it was about to boot on another one.
   * @throws PortBindingFailed
   */
  async moveHere(server: NetworkedServer, previous: NetworkInfo, signal?: AbortSignal): Promise<NetworkInfo> {
    const ports = await this.portsOf(server, signal);
    const bound = await Promise.all(
      ports.map(async (port) => {
        const there = port['binding:host_id'] === this.host && port['binding:vif_type'] !== 'binding_failed';
        if (there) return port;
        const profile = withoutHostKeys(port['binding:profile'] ?? {});
        const fields = { 'binding:host_id': this.host, 'binding:profile': profile };
        return requireBound(await this.neutron.updatePort(port.id, fields));
      }),
    );
    return this.describeAgain(bound, previous);
  }

  /**
   * Makes or binds one NIC's port. Not aborted half way: what Neutron was told to make has to be known to be undone.
   * A port without wishes of the user is made bound in one call as this service, which Neutron answers about a second
   * faster than two; whether a user may have a certain address is for Neutron to judge, so that takes the user's name.
   */
  private async connect(
    nic: PlannedNic,
    groupIds: readonly string[],
    request: Omit<AllocationRequest, 'requestedNetworks'>,
    visible: Neutron,
  ): Promise<NeutronPort> {
    const { network, address } = nic;
    const about = { networkId: network.id, address };
    const named = await this.neutron.hasExtension(DNS_EXTENSION);
    const externalDns = named && (network.dns_domain ?? '') !== '';
    const binding = {
      device_id: request.instanceUuid,
      device_owner: `compute:${request.availabilityZone ?? ''}`,
      'binding:host_id': this.host,
      ...(named && !externalDns ? { dns_name: request.hostname } : {}),
    };
    const wanted = {
      network_id: network.id,
      device_id: request.instanceUuid,
      admin_state_up: true,
      tenant_id: request.projectId,
      ...(address === null ? {} : { fixed_ips: [{ ip_address: address }] }),
      ...(groupIds.length === 0 ? {} : { security_groups: groupIds }),
    };
    const port = await portCall(about, async () => {
      if (nic.port !== null)
        return this.neutron.updatePort(nic.port.id, { ...binding, ...profileOf(nic.port) });
      if (address === null) return this.neutron.createPort({ ...wanted, ...binding });
      const made = await visible.createPort(wanted);
      return this.neutron.updatePort(made.id, binding);
    });
    requireBound(port);
    if (externalDns) await portCall(about, () => visible.updatePort(port.id, { dns_name: request.hostname }));
    return port;
  }

  /** Takes back whatever an allocation did; its own failure is logged, for the first one counts. */
  private async undo(request: AllocationRequest): Promise<void> {
    const server = { uuid: request.instanceUuid, projectId: request.projectId };
    const { requestedNetworks, requester } = request;
    try {
      await this.deallocate(server, [], { requestedNetworks, authToken: requester?.authToken ?? null });
    } catch (error) {
      this.logger.warn(
        { instance_uuid: server.uuid },
        `ports of a failed boot are left: ${describeError(error)}`,
      );
    }
  }

  private async unbind(port: NeutronPort, user: Neutron): Promise<void> {
    const named = await this.neutron.hasExtension(DNS_EXTENSION);
    const [network] = named ? await this.neutron.listNetworks({ id: [port.network_id] }) : [];
    const externalDns = (network?.dns_domain ?? '') !== '';
    await this.neutron.updatePort(port.id, {
      device_id: '',
      device_owner: '',
      'binding:host_id': null,
      'binding:profile': withoutHostKeys(port['binding:profile'] ?? {}),
      ...(named && !externalDns ? { dns_name: '' } : {}),
    });
    if (named && externalDns) await user.updatePort(port.id, { dns_name: '' });
  }

  /** Only the project's own: any tenant may write any server's id into a port. */
  private async portsOf(server: NetworkedServer, signal?: AbortSignal): Promise<readonly NeutronPort[]> {
    return this.neutron.listPorts({ tenant_id: server.projectId, device_id: server.uuid }, signal);
  }

  private async describeAgain(current: readonly NeutronPort[], previous: NetworkInfo): Promise<NetworkInfo> {
    const known = previous.flatMap((vif) => current.filter((port) => port.id === vif.id));
    const added = current.filter((port) => !known.includes(port));
    const preserved = previous.filter((vif) => vif.preserve_on_delete).map((vif) => vif.id);
    const ports = [...known, ...added];
    const around = await this.surroundings(ports.map((port) => port.network_id));
    const ids = ports.map(({ id }) => id);
    return this.describe(ports, new Set(preserved), ids, around);
  }

  private async describe(
    ports: readonly NeutronPort[],
    preservedPortIds: ReadonlySet<string>,
    /** Ports that may have floating IPs: one that was just made has none. */
    olderPortIds: readonly string[],
    around: Surroundings,
  ): Promise<NetworkInfo> {
    const floatingIps = await this.neutron.listFloatingIps({ port_id: olderPortIds });
    return buildNetworkInfo({ ports, preservedPortIds, floatingIps, ...around });
  }

  private async surroundings(networkIds: readonly string[]): Promise<Surroundings> {
    if (networkIds.length === 0) return { networks: [], subnets: [], dhcpPorts: [] };
    return await this.around.get([...new Set(networkIds)].sort().join());
  }

  private async readSurroundings(ids: readonly string[]): Promise<Surroundings> {
    const [networks, subnets, dhcpPorts] = await Promise.all([
      this.neutron.listNetworks({ id: ids }),
      this.neutron.listSubnets({ network_id: ids }),
      this.neutron.listPorts({ network_id: ids, device_owner: 'network:dhcp' }),
    ]);
    return { networks, subnets, dhcpPorts };
  }

  private inNameOf(authToken: string | null): Neutron {
    return authToken === null ? this.neutron : this.neutron.asUser(authToken);
  }
}

/** Neutron replaces the whole profile on a write that has one, so what the user put there is repeated. */
function profileOf(port: NeutronPort): Readonly<Record<string, unknown>> {
  const profile = port['binding:profile'] ?? {};
  return Object.keys(profile).length === 0 ? {} : { 'binding:profile': profile };
}

function withoutHostKeys(profile: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(profile).filter(([key]) => !HOST_PROFILE_KEYS.has(key)));
}
