/**
 * The host's side of Neutron's Open vSwitch ports: the integration bridge. libvirt itself plugs a guest's tap into it, marked
 * with the port it is, which Neutron's agent wires (os-vif: ensure_ovs_bridge).
 */
import { VirtualInterfaceCreateException } from '../../lib/exceptions';
import type { Vif } from '../../lib/objects';
import { exists } from './instance-store';
import { run } from './program';

const TIMEOUT_MS = 30_000;
const DATABASE_SOCKET = '/var/run/openvswitch/db.sock';
const DATAPATHS = ['system', 'netdev'];

/** Makes the bridge, if there is none, with the datapath that Neutron says. @throws VirtualInterfaceCreateException */
export async function ensureOvsBridge(bridge: string, { id, details }: Vif): Promise<void> {
  // Between such a port and its tap Neutron wants a Linux bridge for iptables; agents of this decade filter in the switch.
  if (details?.['ovs_hybrid_plug'] === true) {
    throw new VirtualInterfaceCreateException(
      `Port ${id} is to be plugged by a hybrid of bridges (ovs_hybrid_plug); this host plugs taps into Open vSwitch only: ` +
        "set the agent's firewall_driver to openvswitch",
    );
  }
  const datapath = DATAPATHS.find((name) => name === details?.['datapath_type']);
  const type = datapath === undefined ? [] : ['--', 'set', 'Bridge', bridge, `datapath_type=${datapath}`];
  try {
    await vsctl('--may-exist', 'add-br', bridge, ...type);
  } catch (error) {
    throw new VirtualInterfaceCreateException(`Bridge ${bridge} of Open vSwitch cannot be made`, {
      cause: error,
    });
  }
}

/** Takes a tap that outlived its guest out of its bridge. Idempotent; nothing on hosts without Open vSwitch. */
export async function removeOvsPort(tap: string): Promise<void> {
  if (await exists(DATABASE_SOCKET)) await vsctl('--if-exists', 'del-port', tap);
}

async function vsctl(...args: string[]): Promise<void> {
  await run('ovs-vsctl', [`--timeout=${TIMEOUT_MS / 2000}`, ...args], { timeoutMs: TIMEOUT_MS });
}
