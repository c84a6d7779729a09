/**
 * Memory that a server takes for itself alone: a clone when it is ready, beside the same image and flavor booted cold by a
 * stock nova-compute when its sshd answers.
 */
import { readFile, readdir } from 'node:fs/promises';
import { type Figure, type Goal, figure } from './figures';
import type { BenchOptions } from './main';
import { type Memory, readMemory } from './qemu-memory';
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

/** The memory of the QEMU that runs this server. */
async function memoryOf(uuid: string): Promise<Memory> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (args[args.indexOf('-uuid') + 1] !== uuid) continue;
    return readMemory(await readFile(`/proc/${pid}/smaps`, 'utf8'));
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
    const compare = (name: string, of: (memory: Memory) => number, goal?: Goal): Figure =>
      figure({
        name,
        unit: 'MiB',
        values: ours.map(of),
        peer: { name: `${PEER}, cold`, values: theirs.map(of) },
        ...(goal && { goal }),
      });
    return [
      compare('private memory of a server', ({ privateMb }) => privateMb, {
        of: 'ratio',
        bound: 'at most',
        limit: 0.25,
      }),
      compare("of that the guest's memory", ({ guestMb }) => guestMb),
      compare("of that the guest's code, translated", ({ translatedMb }) => translatedMb),
      compare(
        "of that QEMU's own",
        ({ privateMb, guestMb, translatedMb }) => privateMb - guestMb - translatedMb,
      ),
      compare('memory with its share of what it shares', ({ proportionalMb }) => proportionalMb),
    ];
  });
}
