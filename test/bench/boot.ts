/**
 * A server of a Debian 12 image with a config drive and one NIC, on prebake from its µVM and on stock nova-compute, turn and
 * turn about on one machine: from the RPC on the broker until Nova shows it ACTIVE, and until its sshd has proved that it
 * holds the server's own host key. Then on prebake once more, with the µVM still to be written out.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { loadConfig } from '../../lib/config';
import { CacheLayout } from '../../lib/squirrel/layout';
import { NOVA_CONF } from '../support/nova-api';
import { type Figure, figure } from './figures';
import type { BenchOptions } from './main';
import { STOCK_HOST } from './stock-host';
import {
  type BenchServer,
  PEER,
  type TwoHosts,
  bootOn,
  deleteServer,
  waitForHostKey,
  warmUp,
  withTwoHosts,
} from './two-hosts';

const IMAGE = 'debian-12';
/** What a µVM that has to be written out first may cost a boot. */
const WRITING_OUT_LIMIT_MS = 150;
const FLAVOR = 'm1.small';

/** One server; milliseconds count from the RPC. */
interface Boot {
  readonly activeMs: number;
  readonly sshMs: number;
  readonly hostKey: string;
  /** Where the service's own clock puts a boot from a µVM; empty for the peer. */
  readonly marks: ReadonlyMap<string, number>;
}

/** Has the next boot write its µVM out of the cache, as the first of an image on a host does. No clone is left that maps it. */
async function forgetWrittenOut(): Promise<void> {
  const { cacheDirectory } = (await loadConfig([NOVA_CONF])).prebake;
  const { materialised } = new CacheLayout(cacheDirectory, '');
  for (const key of await readdir(materialised)) await rm(join(materialised, key), { recursive: true });
}

/** Boots, measures and deletes. */
async function measureOn(host: string, name: string, request: BenchServer, hosts: TwoHosts): Promise<Boot> {
  const { id, activeMs, publishedAtMs, server } = await bootOn(host, name, request, hosts);
  try {
    const hostKey = await waitForHostKey(server, hosts);
    const sshMs = performance.now() - publishedAtMs;
    const marks = host === STOCK_HOST ? [] : (await hosts.prebake.waitForReady(id)).marks;
    return { activeMs, sshMs, hostKey, marks: new Map(marks.map((mark) => [mark.name, mark.atMs])) };
  } finally {
    await deleteServer(id, hosts);
  }
}

export async function boot({ runs, say }: BenchOptions): Promise<Figure[]> {
  return await withTwoHosts(say, async (hosts) => {
    const { nova } = hosts;
    const request = { image: await nova.imageId(IMAGE), flavor: await nova.flavorId(FLAVOR) };
    await warmUp(request, hosts);
    return await measure(request, hosts, { runs, say });
  });
}

async function measure(
  request: BenchServer,
  hosts: TwoHosts,
  { runs, say }: BenchOptions,
): Promise<Figure[]> {
  const ours: Boot[] = [];
  const theirs: Boot[] = [];
  const first: Boot[] = [];
  for (let run = 1; run <= runs; run++) {
    ours.push(await measureOn(hosts.host, `bench-prebake-${run}`, request, hosts));
    theirs.push(await measureOn(STOCK_HOST, `bench-stock-${run}`, request, hosts));
    await forgetWrittenOut();
    first.push(await measureOn(hosts.host, `bench-first-${run}`, request, hosts));
    const told = [ours, theirs, first].map((boots) => `${boots.at(-1)?.activeMs} ${boots.at(-1)?.sshMs}`);
    say(
      `run ${run}, ms to ACTIVE and to sshd: ${told[0]}, ${PEER} ${told[1]}, with the µVM to be written out ${told[2]}`,
    );
  }
  const keys = [...ours, ...theirs, ...first].map((boot) => boot.hostKey);
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
    figure({
      name: 'what writing out the µVM adds to RPC to ACTIVE',
      unit: 'ms',
      values: first.map((boot, run) => boot.activeMs - (ours[run]?.activeMs ?? NaN)),
      goal: { of: 'value', bound: 'at most', limit: WRITING_OUT_LIMIT_MS },
    }),
    // The agent that wires ports looks for them every two seconds, and hides what comes before in chance.
    figure({
      name: 'what writing out the µVM adds to RPC to running',
      unit: 'ms',
      values: first.map(({ marks }, run) => markMs(marks, 'running') - markMs(ours[run]?.marks, 'running')),
    }),
    ...['running', 'identity', 'ready'].map((mark) =>
      figure({
        name: `RPC to ${mark}, by the service's clock`,
        unit: 'ms',
        values: ours.map(({ marks }) => markMs(marks, mark)),
      }),
    ),
  ];
}

function markMs(marks: Boot['marks'] | undefined, name: string): number {
  return marks?.get(name) ?? NaN;
}
