/**
 * Memory that a server takes for itself alone: a clone when it is ready, beside the same image and flavor booted cold by a
 * stock nova-compute when its sshd answers.
 */
import { readFile, readdir } from 'node:fs/promises';
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
const FLAVOR = 'm1.small';
const KIB_IN_MIB = 1024;

/** MiB of one server's QEMU. */
interface Memory {
  /** Written by it: nobody shares it, and it cannot be dropped. */
  readonly privateMb: number;
  /** With its share of what it shares. */
  readonly proportionalMb: number;
}

/** The memory of the QEMU that runs this server. */
async function memoryOf(uuid: string): Promise<Memory> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (args[args.indexOf('-uuid') + 1] !== uuid) continue;
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
    const field = (name: string): number =>
      Number(new RegExp(`^${name}: *(\\d+) kB`, 'm').exec(rollup)?.[1]) / KIB_IN_MIB;
    return { privateMb: field('Private_Dirty'), proportionalMb: field('Pss') };
  }
  throw new Error(`no QEMU runs server ${uuid}`);
}

async function measureOn(host: string, name: string, request: BenchServer, hosts: TwoHosts): Promise<Memory> {
  const { id, server } = await bootOn(host, name, request, hosts);
  try {
    if (host === STOCK_HOST) await waitForHostKey(server, hosts);
    else await hosts.prebake.waitForReady(id);
    return await memoryOf(id);
  } finally {
    await deleteServer(id, hosts);
  }
}

export async function density({ runs, say }: BenchOptions): Promise<Figure[]> {
  return await withTwoHosts(say, async (hosts) => {
    const { nova } = hosts;
    const request = { image: await nova.imageId(IMAGE), flavor: await nova.flavorId(FLAVOR) };
    await warmUp(request, hosts);
    const ours: Memory[] = [];
    const theirs: Memory[] = [];
    for (let run = 1; run <= runs; run++) {
      ours.push(await measureOn(hosts.host, `bench-prebake-${run}`, request, hosts));
      theirs.push(await measureOn(STOCK_HOST, `bench-stock-${run}`, request, hosts));
      say(`run ${run}, MiB of its own: ${ours.at(-1)?.privateMb}, ${PEER} ${theirs.at(-1)?.privateMb}`);
    }
    return [
      figure({
        name: 'private memory of a server',
        unit: 'MiB',
        values: ours.map(({ privateMb }) => privateMb),
        peer: { name: `${PEER}, cold`, values: theirs.map(({ privateMb }) => privateMb) },
        goal: { of: 'ratio', bound: 'at most', limit: 0.25 },
      }),
      figure({
        name: 'memory with its share of what it shares',
        unit: 'MiB',
        values: ours.map(({ proportionalMb }) => proportionalMb),
        peer: { name: `${PEER}, cold`, values: theirs.map(({ proportionalMb }) => proportionalMb) },
      }),
    ];
  });
}
