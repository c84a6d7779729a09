/** What is read of Neutron's resources, by Neutron's names; fields that an extension adds may be missing. */
import { z } from 'zod';

const FixedIp = z.object({ subnet_id: z.string(), ip_address: z.string() });

/** A port; `binding:*` is visible to admins only. */
export const PortRecord = z.object({
  id: z.string(),
  name: z.string().default(''),
  network_id: z.string(),
  tenant_id: z.string().default(''),
  mac_address: z.string(),
  admin_state_up: z.boolean().default(true),
  status: z.string().default(''),
  device_id: z.string().default(''),
  device_owner: z.string().default(''),
  fixed_ips: z.array(FixedIp).default([]),
  dns_name: z.string().nullish(),
  'binding:host_id': z.string().nullish(),
  'binding:vif_type': z.string().nullish(),
  'binding:vif_details': z.record(z.string(), z.unknown()).nullish(),
  'binding:vnic_type': z.string().nullish(),
  'binding:profile': z.record(z.string(), z.unknown()).nullish(),
});
export type NeutronPort = z.infer<typeof PortRecord>;

const Segment = z.object({
  'provider:network_type': z.string().nullish(),
  'provider:physical_network': z.string().nullish(),
});

/** A network; `provider:*` and `segments` are visible to admins only. */
export const NetworkRecord = z.object({
  id: z.string(),
  name: z.string().default(''),
  tenant_id: z.string().default(''),
  mtu: z.number().nullish(),
  shared: z.boolean().default(false),
  subnets: z.array(z.string()).default([]),
  port_security_enabled: z.boolean().default(true),
  'router:external': z.boolean().default(false),
  dns_domain: z.string().nullish(),
  'provider:network_type': z.string().nullish(),
  'provider:physical_network': z.string().nullish(),
  segments: z.array(Segment).nullish(),
});
export type NeutronNetwork = z.infer<typeof NetworkRecord>;

export const SubnetRecord = z.object({
  id: z.string(),
  network_id: z.string(),
  cidr: z.string(),
  ip_version: z.number(),
  gateway_ip: z.string().nullish(),
  enable_dhcp: z.boolean().default(false),
  ipv6_address_mode: z.string().nullish(),
  dns_nameservers: z.array(z.string()).default([]),
  host_routes: z.array(z.object({ destination: z.string(), nexthop: z.string() })).default([]),
});
export type NeutronSubnet = z.infer<typeof SubnetRecord>;

export const FloatingIpRecord = z.object({
  floating_ip_address: z.string(),
  fixed_ip_address: z.string().nullish(),
  port_id: z.string().nullish(),
});
export type NeutronFloatingIp = z.infer<typeof FloatingIpRecord>;

export const SecurityGroupRecord = z.object({ id: z.string(), name: z.string() });
export type NeutronSecurityGroup = z.infer<typeof SecurityGroupRecord>;
