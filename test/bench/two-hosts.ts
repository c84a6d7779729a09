/**
 * prebake and a stock nova-compute as two hosts of the all-in-one, for benches that boot servers on one and the other, turn
 * and turn about.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { loadConfig } from '../../lib/config';
import { ComputeProcess } from '../support/compute-process';
import { NOVA_CONF, NovaApi, type Server, type ServerRequest, waitFor } from '../support/nova-api';
import { addressOf, run } from '../support/servers';
import { BusWatch } from './bus-watch';
import { STOCK_HOST, startStockHost, stopStockHost } from './stock-host';

/** What the other host runs. */
export const PEER = 'nova-compute';
const ACTIVE_TIMEOUT_MS = 180_000;
const SSH_TIMEOUT_MS = 400_000;

/** The namespace's ping finds out when the network is there, so that no connection waits for a retransmission. */
const KEY_SCRIPT = `
until ping -q -c 1 -W 0.3 "$0" >/dev/null 2>&1; do :; done
until key=$(ssh-keyscan -T 20 -t ed25519 "$0" 2>/dev/null) && [ -n "$key" ]; do sleep 0.1; done
printf '%s' "\${key##* }"
`;

/** The image and the flavor that a bench boots. */
export type BenchServer = Pick<ServerRequest, 'image' | 'flavor'>;

/** Both hosts, running. */
export interface TwoHosts {
  readonly prebake: ComputeProcess;
  /** The name of the host that prebake is. */
  readonly host: string;
  readonly nova: NovaApi;
  readonly bus: BusWatch;
  /** Of Neutron's DHCP, where guests can be reached from. */
  readonly namespace: string;
}

/** Starts both hosts, does the work, and stops them. */
export async function withTwoHosts<T>(
  say: (line: string) => void,
  work: (hosts: TwoHosts) => Promise<T>,
): Promise<T> {
  const nova = await NovaApi.login();
  const { host, transportUrl } = (await loadConfig([NOVA_CONF])).default;
  const bus = await BusWatch.start(transportUrl, [host, STOCK_HOST]);
  try {
    say(`starting the hosts ${host} and ${STOCK_HOST}`);
    const prebake = await ComputeProcess.start();
    try {
      await startStockHost(nova);
      try {
        const namespace = `qdhcp-${await nova.networkId('private')}`;
        return await work({ prebake, host, nova, bus, namespace });
      } finally {
        await stopStockHost(nova);
      }
    } finally {
      await prebake.stop();
    }
  } finally {
    await bus.stop();
  }
}

/** A server that is ACTIVE; milliseconds count from the RPC. */
export interface BootedServer {
  readonly id: string;
  readonly activeMs: number;
  readonly publishedAtMs: number;
  readonly server: Server;
}

/** Boots a server on a host; whoever calls deletes it. */
export async function bootOn(
  host: string,
  name: string,
  request: BenchServer,
  { nova, bus }: TwoHosts,
): Promise<BootedServer> {
  const id = await nova.create({ name, host, configDrive: true, ...request });
  const publishedAtMs = await bus.moment(id, 'published', ACTIVE_TIMEOUT_MS);
  await Promise.race([
    bus.moment(id, 'saved', ACTIVE_TIMEOUT_MS),
    // A server that fails is told from the API; asked seldom, to keep the machine for the boot.
    waitForEnd(nova, id),
  ]);
  for (;;) {
    const server = await nova.show(id);
    const atMs = performance.now();
    if (server?.status === 'ACTIVE') return { id, activeMs: atMs - publishedAtMs, publishedAtMs, server };
    if (server === null || server.status === 'ERROR') {
      throw new Error(`the server on ${host} failed: ${server?.fault?.message ?? 'it is gone'}`);
    }
    await delay(20);
  }
}

async function waitForEnd(nova: NovaApi, id: string): Promise<void> {
  const deadline = performance.now() + ACTIVE_TIMEOUT_MS;
  while (performance.now() < deadline) {
    await delay(5000);
    const server = await nova.show(id);
    if (server?.status !== 'BUILD') return;
  }
}

export async function deleteServer(id: string, { nova }: TwoHosts): Promise<void> {
  await nova.delete(id);
  await nova.waitForGone(id);
}

/** Waits until sshd has proved that it holds the server's own host key. @returns the public key */
export async function waitForHostKey(server: Server, { namespace }: TwoHosts): Promise<string> {
  const probe = ['netns', 'exec', namespace, 'bash', '-c', KEY_SCRIPT, addressOf(server)];
  return (await run('ip', probe, { timeout: SSH_TIMEOUT_MS })).stdout;
}

/** What nobody counts: the image on both hosts, connections, code that has run once. @throws Error when prebake has no µVM */
export async function warmUp(request: BenchServer, hosts: TwoHosts): Promise<void> {
  for (const host of [hosts.host, STOCK_HOST]) {
    const { id } = await bootOn(host, `bench-warm-${host}`, request, hosts);
    try {
      if (host === hosts.host) await requireClone(id, hosts);
    } finally {
      await deleteServer(id, hosts);
    }
  }
}

/** @throws Error that says why when prebake booted the server cold */
export async function requireClone(id: string, { prebake }: TwoHosts): Promise<void> {
  const boot = await waitFor(
    async () => {
      const found = await prebake.boot(id);
      return found?.how === undefined || found.how === null ? null : found;
    },
    30_000,
    () => 'the boot is not in /boots',
  );
  if (boot.how === 'cold') {
    throw new Error(`prebake booted cold: ${boot.why ?? '?'}; make the µVM first: prebake bake IMAGE`);
  }
}
