/**
 * A server's network in the JSON that Nova keeps in InstanceInfoCache.network_info (nova/network/model.py). Keys that are
 * not named here survive a round trip.
 */
import { z } from 'zod';
import { ObjectFieldError } from './errors';

const metaSchema = z.record(z.string(), z.unknown());

const addressSchema = z.looseObject({
  address: z.string().nullish(),
  type: z.string().nullish(),
  version: z.number().nullish(),
  meta: metaSchema.optional(),
});

const fixedIpSchema = z.looseObject({
  address: z.string(),
  type: z.string().nullish(),
  version: z.number().nullish(),
  meta: metaSchema.optional(),
  floating_ips: z.array(addressSchema).optional(),
});

const routeSchema = z.looseObject({
  cidr: z.string().nullish(),
  gateway: addressSchema.nullish(),
  interface: z.unknown().optional(),
});

const subnetSchema = z.looseObject({
  cidr: z.string().nullable(),
  dns: z.array(addressSchema),
  /** Without an address, or null, for a subnet that has no gateway. */
  gateway: addressSchema.nullish(),
  ips: z.array(fixedIpSchema),
  routes: z.array(routeSchema),
  version: z.number().nullish(),
  /** `dhcp_server`: the address that answers DHCP; absent without DHCP. */
  meta: z.looseObject({ dhcp_server: z.string().nullish() }).optional(),
});

const networkSchema = z.looseObject({
  id: z.string(),
  /** Name of the Linux bridge, null for networks that have none. */
  bridge: z.string().nullable(),
  label: z.string().nullish(),
  subnets: z.array(subnetSchema),
  meta: z.looseObject({
    injected: z.boolean().optional(),
    tenant_id: z.string().nullish(),
    mtu: z.number().nullish(),
    physical_network: z.string().nullish(),
    tunneled: z.boolean().nullish(),
    should_create_bridge: z.boolean().optional(),
  }),
});

const vifSchema = z.looseObject({
  /** The port in Neutron. */
  id: z.string(),
  /** MAC address. */
  address: z.string(),
  network: networkSchema,
  /** bridge, ovs, tap, unbound, binding_failed ... */
  type: z.string().nullable(),
  details: z.record(z.string(), z.unknown()).nullish(),
  /** Name of the tap on the host. */
  devname: z.string().nullable(),
  ovs_interfaceid: z.string().nullish(),
  qbh_params: z.unknown().optional(),
  qbg_params: z.unknown().optional(),
  active: z.boolean(),
  vnic_type: z.string().nullish(),
  profile: z.record(z.string(), z.unknown()).nullish(),
  /** Whether the port is the user's own and outlives the server. */
  preserve_on_delete: z.boolean(),
  delegate_create: z.boolean().optional(),
  meta: metaSchema.optional(),
});

export const networkInfoSchema = z.array(vifSchema);

export type FixedIp = z.infer<typeof fixedIpSchema>;
export type Subnet = z.infer<typeof subnetSchema>;
export type Network = z.infer<typeof networkSchema>;
/** One NIC: port, network and what Neutron said about plugging it. */
export type Vif = z.infer<typeof vifSchema>;
/** All NICs of a server, in the order in which they were asked for. */
export type NetworkInfo = readonly Vif[];

/** @throws ObjectFieldError when the text is not a network description */
export function parseNetworkInfo(json: string): NetworkInfo {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new ObjectFieldError('InstanceInfoCache', 'network_info', 'is not JSON', cause);
  }
  const checked = networkInfoSchema.safeParse(value);
  if (checked.success) return checked.data;
  throw new ObjectFieldError(
    'InstanceInfoCache',
    'network_info',
    `has an unexpected value: ${z.prettifyError(checked.error)}`,
    checked.error,
  );
}

/** The text that goes into InstanceInfoCache.network_info. */
export function serialiseNetworkInfo(info: NetworkInfo): string {
  return JSON.stringify(info);
}
