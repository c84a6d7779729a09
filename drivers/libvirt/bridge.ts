/**
 * The host's side of Neutron's Linux bridges: a bridge must be there before libvirt can put a tap into it, and Neutron's
 * agent only makes it once it saw the tap (os-vif: LinuxBridgePlugin does the same for Nova).
 */
import { writeFile } from 'node:fs/promises';
import { VirtualInterfaceCreateException } from '../../lib/exceptions';
import type { NetworkInfo, Vif } from '../../lib/objects';
import { exists } from './instance-store';
import { ensureOvsBridge, removeOvsPort } from './open-vswitch';
import { run } from './program';

const TIMEOUT_MS = 10_000;
/** IFNAMSIZ without the terminating zero; no slash, no blank. */
const DEVICE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/;

/**
 * Makes the bridges of a server's ports, if Neutron's agent has not yet.
 * @throws VirtualInterfaceCreateException for ports of another kind and for those that cannot be plugged
 */
export async function ensureBridges(network: NetworkInfo): Promise<void> {
  for (const vif of network) {
    const bridge = bridgeOf(vif);
    if (vif.type === 'ovs') await ensureOvsBridge(bridge, vif);
    else await ensureBridge(bridge);
  }
}

/** Removes a tap that outlived its guest. Idempotent. */
export async function deleteTap(name: string): Promise<void> {
  if (!DEVICE_NAME.test(name)) return;
  await removeOvsPort(name);
  if (await deviceExists(name)) await ip('link', 'delete', 'dev', name);
}

/** The bridge that the port's tap belongs into; @throws VirtualInterfaceCreateException */
function bridgeOf(vif: Vif): string {
  const { bridge } = vif.network;
  if (vif.type !== 'bridge' && vif.type !== 'ovs') {
    throw new VirtualInterfaceCreateException(
      `Port ${vif.id} is of type ${vif.type ?? 'none'}; this host plugs ports of Linux bridges and Open vSwitch only`,
    );
  }
  if (
    bridge === null ||
    !DEVICE_NAME.test(bridge) ||
    vif.devname === null ||
    !DEVICE_NAME.test(vif.devname)
  ) {
    throw new VirtualInterfaceCreateException(`Port ${vif.id} names no usable bridge and tap`);
  }
  return bridge;
}

async function ensureBridge(name: string): Promise<void> {
  if (await deviceExists(name)) return;
  try {
    await ip('link', 'add', 'name', name, 'type', 'bridge', 'forward_delay', '0', 'stp_state', '0');
  } catch (error) {
    // Neutron's agent was faster; it has set the bridge up, too.
    if (await deviceExists(name)) return;
    throw new VirtualInterfaceCreateException(`Bridge ${name} cannot be made`, { cause: error });
  }
  // The host has no business in a tenant's network.
  const noIpv6 = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
  if (await exists(noIpv6)) await writeFile(noIpv6, '1');
  await ip('link', 'set', 'dev', name, 'up');
}

async function deviceExists(name: string): Promise<boolean> {
  return await exists(`/sys/class/net/${name}`);
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args, { timeoutMs: TIMEOUT_MS });
}
