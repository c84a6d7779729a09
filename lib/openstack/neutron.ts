/**
 * Neutron's networks, subnets, ports, floating IPs and security groups as a compute host reads and writes them. What a
 * server's network has to look like is decided in `lib/compute/network`.
 */
import { z } from 'zod';
import { isHttpError } from './errors';
import { pathSegment, type KeystoneSession } from './keystone';
import {
  FloatingIpRecord,
  NetworkRecord,
  PortRecord,
  SecurityGroupRecord,
  SubnetRecord,
  type NeutronFloatingIp,
  type NeutronNetwork,
  type NeutronPort,
  type NeutronSecurityGroup,
  type NeutronSubnet,
} from './neutron-records';
import type { EndpointOptions } from './options';
import { ServiceClient } from './service-client';

/** Filters of a list call; a list of values means any of them. */
export type NeutronFilter = Readonly<Record<string, string | readonly string[]>>;

/** Fields of a port to write, by Neutron's names. */
export type PortFields = Readonly<Record<string, unknown>>;

const ExtensionList = z.object({ extensions: z.array(z.object({ alias: z.string() })) });
const AutoAllocatedTopology = z.object({ auto_allocated_topology: z.object({ id: z.string() }) });

/** Neutron's extensions change with its configuration only. */
const EXTENSIONS_MAX_AGE_MS = 600_000;
/** Values of one filter in one request, so that its URL stays within what web servers take. */
const VALUES_PER_QUERY = 100;

/** A client of Neutron's v2.0 API. */
export class Neutron {
  private knownExtensions:
    { readonly names: Promise<ReadonlySet<string>>; readonly atMs: number } | undefined;
  private readonly client: ServiceClient;

  constructor(session: KeystoneSession, endpoint?: EndpointOptions);
  constructor(client: ServiceClient);
  constructor(from: KeystoneSession | ServiceClient, endpoint: EndpointOptions = {}) {
    this.client = from instanceof ServiceClient ? from : new ServiceClient(from, 'network', endpoint);
  }

  /** Neutron in the name of the user whose token this is: sees and may do what that user may. */
  asUser(userToken: string): Neutron {
    return new Neutron(this.client.asUser(userToken));
  }

  async listNetworks(filter: NeutronFilter, signal?: AbortSignal): Promise<readonly NeutronNetwork[]> {
    return this.list('networks', NetworkRecord, filter, signal);
  }

  async listSubnets(filter: NeutronFilter, signal?: AbortSignal): Promise<readonly NeutronSubnet[]> {
    return this.list('subnets', SubnetRecord, filter, signal);
  }

  async listPorts(filter: NeutronFilter, signal?: AbortSignal): Promise<readonly NeutronPort[]> {
    return this.list('ports', PortRecord, filter, signal);
  }

  async listSecurityGroups(
    filter: NeutronFilter,
    signal?: AbortSignal,
  ): Promise<readonly NeutronSecurityGroup[]> {
    return this.list('security-groups', SecurityGroupRecord, filter, signal);
  }

  /** Empty as well where Neutron has no routers and therefore no floating IPs. */
  async listFloatingIps(filter: NeutronFilter, signal?: AbortSignal): Promise<readonly NeutronFloatingIp[]> {
    try {
      return await this.list('floatingips', FloatingIpRecord, filter, signal);
    } catch (error) {
      if (isHttpError(error, 404)) return [];
      throw error;
    }
  }

  /** @returns null when there is no such port */
  async findPort(portId: string, signal?: AbortSignal): Promise<NeutronPort | null> {
    const path = `/v2.0/ports/${pathSegment(portId)}`;
    try {
      return (await this.client.request(z.object({ port: PortRecord }), { method: 'GET', path, signal }))
        .port;
    } catch (error) {
      if (isHttpError(error, 404)) return null;
      throw error;
    }
  }

  async createPort(port: PortFields, signal?: AbortSignal): Promise<NeutronPort> {
    const call = { method: 'POST', path: '/v2.0/ports', body: { port }, signal } as const;
    return (await this.client.request(z.object({ port: PortRecord }), call)).port;
  }

  async updatePort(portId: string, port: PortFields, signal?: AbortSignal): Promise<NeutronPort> {
    const call = {
      method: 'PUT',
      path: `/v2.0/ports/${pathSegment(portId)}`,
      body: { port },
      signal,
    } as const;
    return (await this.client.request(z.object({ port: PortRecord }), call)).port;
  }

  /** @returns false when there was no such port */
  async deletePort(portId: string, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.client.send({ method: 'DELETE', path: `/v2.0/ports/${pathSegment(portId)}`, signal });
      return true;
    } catch (error) {
      if (isHttpError(error, 404)) return false;
      throw error;
    }
  }

  /** The network that Neutron makes for a project that has none. @returns its id */
  async autoAllocateNetwork(projectId: string, signal?: AbortSignal): Promise<string> {
    const path = `/v2.0/auto-allocated-topology/${pathSegment(projectId)}`;
    const answer = await this.client.request(AutoAllocatedTopology, { method: 'GET', path, signal });
    return answer.auto_allocated_topology.id;
  }

  /**
   * Is logged in, and knows what Neutron can do, so that no server has to wait for it. Called again from time to time it
   * renews both before they are out of date.
   */
  async prepare(): Promise<void> {
    await this.client.logIn();
    await this.hasExtension('');
  }

  /** Whether an extension is loaded, by its alias. */
  async hasExtension(alias: string): Promise<boolean> {
    const known = this.knownExtensions;
    if (known !== undefined && known.atMs + EXTENSIONS_MAX_AGE_MS > Date.now()) {
      return (await known.names).has(alias);
    }
    const names = this.readExtensions();
    const atMs = Date.now();
    // What was known is good enough until it is known anew.
    this.knownExtensions = { names: known?.names ?? names, atMs };
    names.then(
      () => (this.knownExtensions = { names, atMs }),
      () => (this.knownExtensions = known),
    );
    return (await (known?.names ?? names)).has(alias);
  }

  private async readExtensions(): Promise<ReadonlySet<string>> {
    const answer = await this.client.request(ExtensionList, { method: 'GET', path: '/v2.0/extensions' });
    return new Set(answer.extensions.map((extension) => extension.alias));
  }

  private async list<T>(
    collection: 'networks' | 'subnets' | 'ports' | 'floatingips' | 'security-groups',
    record: z.ZodType<T>,
    filter: NeutronFilter,
    signal: AbortSignal | undefined,
  ): Promise<T[]> {
    const field = collection.replace('-', '_');
    const schema = z
      .record(z.string(), z.unknown())
      .transform((body) => body[field])
      .pipe(z.array(record));
    const found: T[] = [];
    for (const query of portions(filter)) {
      found.push(
        ...(await this.client.request(schema, { method: 'GET', path: `/v2.0/${collection}`, query, signal })),
      );
    }
    return found;
  }
}

/** Splits a filter whose longest list is too long for one URL; an empty list, which Neutron takes for "all", asks nothing. */
function portions(filter: NeutronFilter): NeutronFilter[] {
  const lists = Object.entries(filter).filter((entry): entry is [string, readonly string[]] =>
    Array.isArray(entry[1]),
  );
  if (lists.some(([, values]) => values.length === 0)) return [];
  const longest = lists.sort(([, a], [, b]) => b.length - a.length)[0];
  if (longest === undefined) return [filter];
  const [name, values] = longest;
  const parts: NeutronFilter[] = [];
  for (let start = 0; start < values.length; start += VALUES_PER_QUERY) {
    parts.push({ ...filter, [name]: values.slice(start, start + VALUES_PER_QUERY) });
  }
  return parts;
}
