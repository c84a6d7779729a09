/**
 * Tells a clone's gate who it is and what to expect: built from the same source as the server's config drive.
 *
 * Time and entropy are not in it; they are added at the moment of sending (gate.ts).
 */
import { isIP } from 'node:net';
import type { InstanceIdentity } from '../../drivers/driver';
import type { NetworkInfo, Subnet, Vif } from '../objects';
import { shellAssignments } from './shell-assignments';

/** What the clone has and will have been given by hot-plug. */
export interface GuestResources {
  /** All of them, the µVM's own first one included. */
  readonly vcpus: number;
  /** Memory added to that of the µVM. */
  readonly hotplugMemoryMb: number;
  /** Size of the root disk. */
  readonly rootBytes: number;
  /** Sizes of further disks: ephemeral, then swap; the config drive is not one of them. */
  readonly disks: readonly number[];
}

/** One NIC as the guest is to set it up. */
export interface GuestInterface {
  readonly mac: string;
  readonly mtu: number | null;
  /** `address/prefix`. */
  readonly addresses: readonly string[];
  readonly dhcp4: boolean;
  readonly dhcp6: boolean;
  readonly routes: readonly { readonly to: string; readonly via: string }[];
  readonly dns: readonly string[];
}

/** The message; `sh` says the same as the rest in a form that a shell without a JSON parser can evaluate. */
export interface IdentifyMessage extends Record<string, unknown> {
  readonly instanceId: string;
  readonly hostname: string;
  readonly publicKeys: readonly string[];
  readonly interfaces: readonly GuestInterface[];
  readonly resources: GuestResources;
  /** The config drive's files (path to base64) for a clone that gets no drive; null when it has one. */
  readonly seed: Readonly<Record<string, string>> | null;
  /** Base64. */
  readonly sh: string;
}

/** Builds the message for one clone. */
export function buildIdentifyMessage(
  identity: InstanceIdentity,
  network: NetworkInfo,
  resources: GuestResources,
): IdentifyMessage {
  const publicKeys = identity.publicKeys.map((key) => key.trim().replace(/[\r\n]+/g, ' '));
  const interfaces = network.map(guestInterface);
  const seed = identity.configDrive
    ? null
    : Object.fromEntries(identity.files.map((file) => [file.path, file.content.toString('base64')]));
  return {
    // First, so that a shell finds it before anything that a user wrote.
    sh: Buffer.from(
      shellAssignments({
        instance_id: identity.uuid,
        hostname: identity.hostname,
        public_keys: publicKeys.join('\n'),
        vcpus: String(resources.vcpus),
        hotplug_memory_mb: String(resources.hotplugMemoryMb),
        root_bytes: String(resources.rootBytes),
        disks: resources.disks.join(' '),
        drive: identity.configDrive ? 'yes' : 'no',
        interfaces: interfaces.map(interfaceLine).join('\n'),
        user_data: isScript(identity.userData) ? identity.userData.toString('base64') : '',
      }),
    ).toString('base64'),
    instanceId: identity.uuid,
    hostname: identity.hostname,
    publicKeys,
    interfaces,
    resources,
    seed,
  };
}

function guestInterface(vif: Vif): GuestInterface {
  const { subnets, meta } = vif.network;
  const dhcp = (version: number): boolean =>
    subnets.some((subnet) => subnet.version === version && typeof subnet.meta?.dhcp_server === 'string');
  return {
    mac: vif.address.toLowerCase(),
    mtu: meta.mtu ?? null,
    addresses: subnets.flatMap((subnet) => subnet.ips.map((ip) => withPrefix(ip.address, subnet))),
    dhcp4: dhcp(4),
    dhcp6: dhcp(6),
    routes: subnets.flatMap(routesOf),
    dns: [...new Set(subnets.flatMap((subnet) => subnet.dns.flatMap(({ address }) => ipOrNothing(address))))],
  };
}

function withPrefix(address: string, subnet: Subnet): string {
  const prefix = subnet.cidr?.split('/')[1] ?? (isIP(address) === 6 ? '128' : '32');
  return `${address}/${prefix}`;
}

function routesOf(subnet: Subnet): { to: string; via: string }[] {
  const anywhere = subnet.version === 6 ? '::/0' : '0.0.0.0/0';
  const gateways = ipOrNothing(subnet.gateway?.address).map((via) => ({ to: anywhere, via }));
  const others = subnet.routes.flatMap(({ cidr, gateway }) =>
    ipOrNothing(gateway?.address).flatMap((via) => (typeof cidr === 'string' ? [{ to: cidr, via }] : [])),
  );
  return [...gateways, ...others];
}

function ipOrNothing(address: string | null | undefined): string[] {
  return typeof address === 'string' && isIP(address) !== 0 ? [address] : [];
}

/** `mac mtu dhcp|static address,... to=via,... dns,...` with `-` for nothing. */
function interfaceLine(nic: GuestInterface): string {
  const list = (items: readonly string[]): string => items.join(',') || '-';
  return [
    nic.mac,
    nic.mtu ?? '-',
    nic.dhcp4 ? 'dhcp' : 'static',
    list(nic.addresses),
    list(nic.routes.map(({ to, via }) => `${to}=${via}`)),
    list(nic.dns),
  ].join(' ');
}

function isScript(userData: Buffer | null): userData is Buffer {
  return userData !== null && userData.subarray(0, 2).toString('latin1') === '#!';
}
