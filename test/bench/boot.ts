/**
 * A server of a Debian 12 image with a config drive and one NIC, on prebake from its µVM and on stock nova-compute, turn and
 * turn about on one machine: from the RPC on the broker until Nova shows it ACTIVE, and until its sshd has proved that it
 * holds the server's own host key.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { loadConfig } from '../../lib/config';
import { ComputeProcess } from '../support/compute-process';
import { NOVA_CONF, NovaApi, type Server, waitFor } from '../support/nova-api';
import { addressOf, run } from '../support/servers';
import { BusWatch } from './bus-watch';
import { type Figure, figure } from './figures';
import type { BenchOptions } from './main';
import { STOCK_HOST, startStockHost, stopStockHost } from './stock-host';

const IMAGE = 'debian-12';
const FLAVOR = 'm1.small';
const PEER = 'nova-compute';
const ACTIVE_TIMEOUT_MS = 180_000;
const SSH_TIMEOUT_MS = 400_000;

/** The namespace's ping finds out when the network is there, so that no connection waits for a retransmission. */
const KEY_SCRIPT = `
until ping -q -c 1 -W 0.3 "$0" >/dev/null 2>&1; do :; done
until key=$(ssh-keyscan -T 20 -t ed25519 "$0" 2>/dev/null) && [ -n "$key" ]; do sleep 0.1; done
printf '%s' "\${key##* }"
`;

/** One server; milliseconds count from the RPC. */
interface Boot {
  readonly activeMs: number;
  readonly sshMs: number;
  readonly hostKey: string;
}

/** Where the service's own clock puts a boot from a µVM, milliseconds from the RPC's arrival. */
type Marks = ReadonlyMap<string, number>;

interface Surroundings {
  readonly prebake: ComputeProcess;
  readonly nova: NovaApi;
  readonly bus: BusWatch;
  readonly namespace: string;
  readonly request: { readonly image: string; readonly flavor: string };
}

async function bootOn(
  host: string,
  name: string,
  around: Surroundings,
): Promise<{ id: string; activeMs: number; publishedAtMs: number; server: Server }> {
  const { nova, bus, request } = around;
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

/** Boots, measures and deletes. */
async function measureOn(host: string, name: string, around: Surroundings): Promise<Boot & { marks: Marks }> {
  const { nova, namespace, prebake } = around;
  const { id, activeMs, publishedAtMs, server } = await bootOn(host, name, around);
  try {
    const probe = ['netns', 'exec', namespace, 'bash', '-c', KEY_SCRIPT, addressOf(server)];
    const { stdout } = await run('ip', probe, { timeout: SSH_TIMEOUT_MS });
    const sshMs = performance.now() - publishedAtMs;
    const marks = host === STOCK_HOST ? [] : (await prebake.waitForReady(id)).marks;
    return {
      activeMs,
      sshMs,
      hostKey: stdout,
      marks: new Map(marks.map((mark) => [mark.name, mark.atMs])),
    };
  } finally {
    await nova.delete(id);
    await nova.waitForGone(id);
  }
}

/** What nobody counts: the image on the host, connections, code that has run once. */
async function warmUp(host: string, around: Surroundings): Promise<void> {
  const { prebake } = around;
  const { id } = await bootOn(host, `bench-warm-${host}`, around);
  try {
    if (host === STOCK_HOST) return;
    const boot = await waitFor(
      async () => {
        const found = await prebake.boot(id);
        return found?.how === undefined || found.how === null ? null : found;
      },
      30_000,
      () => 'the boot is not in /boots',
    );
    if (boot.how === 'cold') {
      throw new Error(`prebake booted cold: ${boot.why ?? '?'}; make the µVM first: prebake bake ${IMAGE}`);
    }
  } finally {
    await around.nova.delete(id);
    await around.nova.waitForGone(id);
  }
}

export async function boot({ runs, say }: BenchOptions): Promise<Figure[]> {
  const nova = await NovaApi.login();
  const config = await loadConfig([NOVA_CONF]);
  const { host, transportUrl } = config.default;
  const bus = await BusWatch.start(transportUrl, [host, STOCK_HOST]);
  try {
    say(`starting the hosts ${host} and ${STOCK_HOST}`);
    const prebake = await ComputeProcess.start();
    try {
      await startStockHost(nova);
      try {
        const around: Surroundings = {
          prebake,
          nova,
          bus,
          namespace: `qdhcp-${await nova.networkId('private')}`,
          request: { image: await nova.imageId(IMAGE), flavor: await nova.flavorId(FLAVOR) },
        };
        for (const name of [host, STOCK_HOST]) await warmUp(name, around);
        return await measure(host, around, { runs, say });
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

async function measure(host: string, around: Surroundings, { runs, say }: BenchOptions): Promise<Figure[]> {
  const ours: (Boot & { marks: Marks })[] = [];
  const theirs: Boot[] = [];
  for (let run = 1; run <= runs; run++) {
    ours.push(await measureOn(host, `bench-prebake-${run}`, around));
    theirs.push(await measureOn(STOCK_HOST, `bench-stock-${run}`, around));
    const [mine, other] = [ours.at(-1), theirs.at(-1)];
    say(
      `run ${run}, ms to ACTIVE and to sshd: ${mine?.activeMs} ${mine?.sshMs}, ${PEER} ${other?.activeMs} ${other?.sshMs}`,
    );
  }
  const keys = [...ours, ...theirs].map((boot) => boot.hostKey);
  if (new Set(keys).size < keys.length) throw new Error('two servers have the same ssh host key');
  return [
    figure({
      name: 'RPC to ACTIVE',
      unit: 'ms',
      values: ours.map((boot) => boot.activeMs),
      peer: { name: PEER, values: theirs.map((boot) => boot.activeMs) },
      goal: { of: 'ratio', bound: 'at most', limit: 0.25 },
    }),
    figure({
      name: 'RPC to sshd with its own key',
      unit: 'ms',
      values: ours.map((boot) => boot.sshMs),
      peer: { name: PEER, values: theirs.map((boot) => boot.sshMs) },
      goal: { of: 'ratio', bound: 'at most', limit: 0.04 },
    }),
    ...['running', 'identity', 'ready'].map((mark) =>
      figure({
        name: `RPC to ${mark}, by the service's clock`,
        unit: 'ms',
        values: ours.map(({ marks }) => marks.get(mark) ?? NaN),
      }),
    ),
  ];
}
