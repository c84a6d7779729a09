/** What is read of Placement's resources, and the same as the rest of the service speaks of it. */
import { z } from 'zod';

export const ProviderRecord = z.object({ uuid: z.string(), name: z.string(), generation: z.number() });
export const ProviderList = z.object({ resource_providers: z.array(ProviderRecord) });
export const InventoryRecord = z.object({
  total: z.number(),
  reserved: z.number(),
  min_unit: z.number(),
  max_unit: z.number(),
  step_size: z.number(),
  allocation_ratio: z.number(),
});
export const InventoryAnswer = z.object({
  resource_provider_generation: z.number(),
  inventories: z.record(z.string(), InventoryRecord),
});
export const TraitList = z.object({ traits: z.array(z.string()) });
export const ProviderTraits = TraitList.extend({ resource_provider_generation: z.number() });
export const ResourceAmounts = z.object({ resources: z.record(z.string(), z.number()) });
export const ProviderAllocations = z.object({ allocations: z.record(z.string(), ResourceAmounts) });
export const ConsumerAnswer = z.object({
  allocations: z.record(z.string(), ResourceAmounts),
  consumer_generation: z.number().nullish(),
  project_id: z.string().nullish(),
  user_id: z.string().nullish(),
});

/** A resource provider: for a compute host, one per ComputeNode, with the same UUID. */
export interface ResourceProvider {
  readonly uuid: string;
  readonly name: string;
  /** Rises with every change; writers have to name the one they saw. */
  readonly generation: number;
}

/** One resource class of an inventory (`VCPU`, `MEMORY_MB`, `DISK_GB`), in units of the class, as Placement writes it. */
export type Inventory = z.infer<typeof InventoryRecord>;

/** Amounts by resource class. */
export type Resources = Readonly<Record<string, number>>;

/** What one consumer (a server or a migration) has allocated. */
export interface ConsumerAllocations {
  /** Amounts by provider UUID; empty when the consumer has none. */
  readonly byProvider: Readonly<Record<string, Resources>>;
  readonly consumerGeneration: number | null;
}
