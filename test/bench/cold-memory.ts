/**
 * What a boot costs when the memory of its µVM has left the host's, and what reading it ahead gives back: clones from a file
 * that is in memory, from one that is not, and from one that is not and is read ahead, turn and turn about.
 */
import { utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Timeline } from '../../lib/timeline';
import { reportOf, UvmHost } from '../functional/support/uvm-host';
import { run } from '../support/servers';
import { type Figure, figure } from './figures';
import type { BenchOptions } from './main';

const IMAGE = 'debian-12';
const BASE_MEMORY_MB = 512;
const TIMEOUT_MS = 900_000;
const AN_HOUR_MS = 3_600_000;
const FLAVOR = {
  name: 'bench',
  vcpus: 1,
  memoryMb: BASE_MEMORY_MB,
  rootGb: 10,
  ephemeralGb: 0,
  swapMb: 0,
  extraSpecs: {},
};

type Way = 'in memory' | 'not in memory' | 'read ahead';

/** Milliseconds from the driver's call. */
interface Restored {
  readonly runningMs: number;
  readonly readyMs: number;
}

/** Has the kernel forget the file's content; waits for what is not on the disk yet. */
async function evict(path: string): Promise<void> {
  await run('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
}

async function restoreFrom(way: Way, ramPath: string, host: UvmHost): Promise<Restored> {
  if (way === 'in memory') await run('dd', [`if=${ramPath}`, 'of=/dev/null', 'bs=1M', 'status=none']);
  else await evict(ramPath);
  // The cache reads ahead what was not used for a while.
  const usedAt = new Date(Date.now() - (way === 'read ahead' ? AN_HOUR_MS : 0));
  await utimes(join(dirname(ramPath), 'written.json'), usedAt, usedAt);
  const instance = host.server(FLAVOR);
  const timeline = new Timeline();
  const request = await host.request(instance, { timeline });
  const beganMs = timeline.elapsedMs();
  try {
    await reportOf(await host.driver.spawn(request));
    const since = (name: string): number =>
      (timeline.marks.find((mark) => mark.name === name)?.atMs ?? NaN) - beganMs;
    return { runningMs: since('running'), readyMs: since('ready') };
  } finally {
    await host.driver.destroy(instance);
  }
}

/** Bakes on a host of the bench's own; nothing of the cloud is used but its image file. */
export async function coldMemory({ runs, say }: BenchOptions): Promise<Figure[]> {
  const host = await UvmHost.start({
    imageFile: `${IMAGE}.qcow2`,
    baseMemoryMb: BASE_MEMORY_MB,
    bakeTimeoutS: TIMEOUT_MS / 1000,
    gateTimeoutMs: TIMEOUT_MS,
  });
  try {
    say(`${IMAGE}: baking`);
    await host.baker.bake(host.image);
    const { template } = await host.request(host.server(FLAVOR));
    if ('none' in template) throw new Error(`no µVM: ${template.none}`);
    const { ramPath } = template.uvm;
    const of: Record<Way, Restored[]> = { 'in memory': [], 'not in memory': [], 'read ahead': [] };
    await restoreFrom('in memory', ramPath, host);
    for (let number = 1; number <= runs; number += 1) {
      for (const way of ['in memory', 'not in memory', 'read ahead'] as const) {
        of[way].push(await restoreFrom(way, ramPath, host));
        const { runningMs, readyMs } = of[way].at(-1) ?? { runningMs: NaN, readyMs: NaN };
        say(
          `run ${number}, ${way}: running after ${runningMs.toFixed()} ms, ready after ${readyMs.toFixed()}`,
        );
      }
    }
    const compare = (way: Way, peer: Way, name: keyof Restored, what: string): Figure =>
      figure({
        name: `driver call to ${what}, memory ${way}`,
        unit: 'ms',
        values: of[way].map((one) => one[name]),
        peer: { name: peer, values: of[peer].map((one) => one[name]) },
      });
    return [
      compare('not in memory', 'in memory', 'runningMs', 'running'),
      compare('not in memory', 'in memory', 'readyMs', 'ready'),
      compare('read ahead', 'in memory', 'runningMs', 'running'),
      compare('read ahead', 'in memory', 'readyMs', 'ready'),
    ];
  } finally {
    await host.stop();
  }
}
