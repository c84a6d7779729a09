/**
 * What a compute host tells Placement about itself, and what it reads there: its resource provider, inventory, traits
 * and allocations. Follows nova/scheduler/client/report.py in what is written and when.
 */
import { isDeepStrictEqual } from 'node:util';
import type { z } from 'zod';
import { isHttpError } from './errors';
import { pathSegment, type KeystoneSession } from './keystone';
import type { EndpointOptions } from './options';
import {
  ConsumerAnswer,
  InventoryAnswer,
  ProviderAllocations,
  ProviderList,
  ProviderRecord,
  ProviderTraits,
  TraitList,
  type ConsumerAllocations,
  type Inventory,
  type ResourceProvider,
  type Resources,
} from './placement-records';
import { ServiceClient } from './service-client';

/** The provider's name is taken by a provider with another UUID: usually what is left of an earlier host. */
export class ProviderNameTaken extends Error {
  constructor(name: string, uuid: string, options?: ErrorOptions) {
    super(
      `Placement has another resource provider named ${name} than ${uuid}; delete it or its compute service`,
      options,
    );
    this.name = 'ProviderNameTaken';
  }
}

/** Servers still use what an inventory no longer offers. */
export class InventoryInUse extends Error {
  constructor(uuid: string, options?: ErrorOptions) {
    super(`The inventory of resource provider ${uuid} cannot shrink: it is in use`, options);
    this.name = 'InventoryInUse';
  }
}

const GENERATION_ATTEMPTS = 4;
/** Traits asked about in one request, so that its URL stays within what web servers take. */
const TRAITS_PER_QUERY = 80;
const DRIVER_TRAIT = /^(COMPUTE|HW_CPU)_/;

/** A client of the Placement API. */
export class Placement {
  private readonly client: ServiceClient;

  constructor(session: KeystoneSession, endpoint: EndpointOptions = {}) {
    this.client = new ServiceClient(session, 'placement', endpoint);
  }

  /** Rejects when Placement cannot be reached with these credentials. */
  async ping(signal?: AbortSignal): Promise<void> {
    await this.client.send({
      method: 'GET',
      path: '/traits',
      query: { name: 'in:COMPUTE_NODE' },
      headers: v('1.6'),
      signal,
    });
  }

  async findProvider(uuid: string): Promise<ResourceProvider | null> {
    const query = { in_tree: uuid };
    const answer = await this.client.request(ProviderList, {
      method: 'GET',
      path: '/resource_providers',
      query,
      headers: v('1.14'),
    });
    return answer.resource_providers.find((provider) => provider.uuid === uuid) ?? null;
  }

  /** Finds the provider or creates it. @throws ProviderNameTaken */
  async ensureProvider(uuid: string, name: string): Promise<ResourceProvider> {
    const existing = await this.findProvider(uuid);
    if (existing !== null) return existing;
    try {
      return await this.client.request(ProviderRecord, {
        method: 'POST',
        path: '/resource_providers',
        headers: v('1.20'),
        body: { uuid, name },
      });
    } catch (error) {
      if (!isHttpError(error, 409)) throw error;
      const raced = await this.findProvider(uuid);
      if (raced === null) throw new ProviderNameTaken(name, uuid, { cause: error });
      return raced;
    }
  }

  /** What the provider offers now, by resource class. */
  async inventory(uuid: string): Promise<Readonly<Record<string, Inventory>>> {
    return (await this.readInventory(uuid)).inventories;
  }

  /**
   * Makes the provider offer exactly this; writes nothing when it already does.
   * @returns whether it was written
   * @throws InventoryInUse
   */
  async setInventory(uuid: string, wanted: Readonly<Record<string, Inventory>>): Promise<boolean> {
    return this.withGeneration(async () => {
      const { resource_provider_generation, inventories } = await this.readInventory(uuid);
      if (sameInventory(inventories, wanted)) return false;
      const path = `/resource_providers/${pathSegment(uuid)}/inventories`;
      const body = { resource_provider_generation, inventories: wanted };
      try {
        await this.client.send({ method: 'PUT', path, headers: v('1.26'), body });
      } catch (error) {
        if (isHttpError(error, 409) && error.errorType === 'placement.inventory.inuse') {
          throw new InventoryInUse(uuid, { cause: error });
        }
        throw error;
      }
      return true;
    });
  }

  async traits(uuid: string): Promise<ReadonlySet<string>> {
    return new Set((await this.readTraits(uuid)).traits);
  }

  /**
   * Makes these, as far as Placement knows them, the provider's traits. Traits outside of what a compute driver speaks
   * of (`COMPUTE_*`, `HW_CPU_*`) were given by the operator and stay. `CUSTOM_*` ones are made when needed.
   * @returns whether it was written
   */
  async setTraits(uuid: string, wanted: Iterable<string>): Promise<boolean> {
    const usable = await this.usableTraits([...new Set(wanted)]);
    return this.withGeneration(async () => {
      const { resource_provider_generation, traits: current } = await this.readTraits(uuid);
      const foreign = current.filter((trait) => !DRIVER_TRAIT.test(trait));
      const traits = [...new Set([...usable, ...foreign])].sort();
      if (isDeepStrictEqual(traits, [...current].sort())) return false;
      const path = `/resource_providers/${pathSegment(uuid)}/traits`;
      await this.client.send({
        method: 'PUT',
        path,
        headers: v('1.6'),
        body: { resource_provider_generation, traits },
      });
      return true;
    });
  }

  /** Amounts by consumer UUID of everything allocated on the provider. */
  async allocationsOfProvider(uuid: string): Promise<Readonly<Record<string, Resources>>> {
    const path = `/resource_providers/${pathSegment(uuid)}/allocations`;
    const answer = await this.client.request(ProviderAllocations, { method: 'GET', path });
    return amounts(answer.allocations);
  }

  async allocationsOfConsumer(uuid: string): Promise<ConsumerAllocations> {
    const answer = await this.readConsumer(uuid);
    return {
      byProvider: amounts(answer.allocations),
      consumerGeneration: answer.consumer_generation ?? null,
    };
  }

  /** Frees everything a consumer has. @returns false when it had nothing */
  async deleteAllocations(consumerUuid: string): Promise<boolean> {
    try {
      await this.client.send({ method: 'DELETE', path: `/allocations/${pathSegment(consumerUuid)}` });
      return true;
    } catch (error) {
      if (isHttpError(error, 404)) return false;
      throw error;
    }
  }

  /**
   * Gives what `fromConsumer` (a migration) holds to `toConsumer` (its server), which loses what it had: the way back of
   * a move that did not happen (nova: revert_allocation_for_migration). Nothing happens when `fromConsumer` holds nothing.
   */
  async moveAllocations(fromConsumer: string, toConsumer: string): Promise<void> {
    await this.withGeneration(async () => {
      const from = await this.readConsumer(fromConsumer);
      if (Object.keys(from.allocations).length === 0) return;
      const to = await this.readConsumer(toConsumer);
      const owner = { project_id: from.project_id, user_id: from.user_id };
      const body = {
        [fromConsumer]: { allocations: {}, ...owner, consumer_generation: from.consumer_generation ?? null },
        [toConsumer]: {
          allocations: Object.fromEntries(
            Object.entries(from.allocations).map(([provider, { resources }]) => [provider, { resources }]),
          ),
          ...owner,
          consumer_generation: to.consumer_generation ?? null,
        },
      };
      await this.client.send({ method: 'POST', path: '/allocations', headers: v('1.28'), body });
    });
  }

  private async readConsumer(uuid: string): Promise<z.infer<typeof ConsumerAnswer>> {
    const path = `/allocations/${pathSegment(uuid)}`;
    return this.client.request(ConsumerAnswer, { method: 'GET', path, headers: v('1.28') });
  }

  private async readInventory(uuid: string): Promise<z.infer<typeof InventoryAnswer>> {
    const path = `/resource_providers/${pathSegment(uuid)}/inventories`;
    return this.client.request(InventoryAnswer, { method: 'GET', path });
  }

  private async readTraits(uuid: string): Promise<z.infer<typeof ProviderTraits>> {
    const path = `/resource_providers/${pathSegment(uuid)}/traits`;
    return this.client.request(ProviderTraits, { method: 'GET', path, headers: v('1.6') });
  }

  /** Of these traits, those that Placement has; `CUSTOM_` ones are made. */
  private async usableTraits(names: readonly string[]): Promise<ReadonlySet<string>> {
    const known = new Set<string>();
    for (let start = 0; start < names.length; start += TRAITS_PER_QUERY) {
      const query = { name: `in:${names.slice(start, start + TRAITS_PER_QUERY).join(',')}` };
      const call = { method: 'GET', path: '/traits', query, headers: v('1.6') } as const;
      for (const name of (await this.client.request(TraitList, call)).traits) known.add(name);
    }
    for (const name of names) {
      if (known.has(name) || !name.startsWith('CUSTOM_')) continue;
      await this.client.send({ method: 'PUT', path: `/traits/${pathSegment(name)}`, headers: v('1.6') });
      known.add(name);
    }
    return known;
  }

  /** Runs a read-and-write again when somebody else wrote in between. */
  private async withGeneration<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (error) {
        if (!isConflict(error) || attempt === GENERATION_ATTEMPTS) throw error;
      }
    }
  }
}

/** A lost race; Placement answers some of them, those about traits, with 500 and the advice to retry. */
function isConflict(error: unknown): boolean {
  return (
    isHttpError(error, 409) ||
    (isHttpError(error, 500) && error.serviceMessage.includes('concurrently updated'))
  );
}

function v(microversion: string): Readonly<Record<string, string>> {
  return { 'OpenStack-API-Version': `placement ${microversion}` };
}

function amounts(allocations: Readonly<Record<string, { resources: Resources }>>): Record<string, Resources> {
  return Object.fromEntries(Object.entries(allocations).map(([uuid, { resources }]) => [uuid, resources]));
}

function sameInventory(
  one: Readonly<Record<string, Inventory>>,
  other: Readonly<Record<string, Inventory>>,
): boolean {
  // Placement keeps ratios as single-precision numbers: 0.9 comes back as 0.899999976.
  const plain = (inventory: Readonly<Record<string, Inventory>>): unknown =>
    Object.fromEntries(
      Object.entries(inventory).map(([name, record]) => [
        name,
        { ...record, allocation_ratio: Math.fround(record.allocation_ratio) },
      ]),
    );
  return isDeepStrictEqual(plain(one), plain(other));
}
