/** The corpus in a fresh cache, one µVM after the other, beside what others make of the same files. */
import { createHash } from 'node:crypto';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { measureSample, openCache } from './cache';
import { measureIndex } from './cache-index';
import { openPeers, sizeOf, type Peer } from './cache-peers';
import { bakeSet, corpusNames, hasSet, readSet, setNames, type BakedSet } from './corpus';
import { figure, type Figure } from './figures';
import type { BenchOptions, CorpusOptions } from './main';
import { project, type Added } from './projection';

const run = promisify(execFile);
const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const CONVERT_TIMEOUT_MS = 300_000;
/** A host of a public cloud, as the paper has it. */
const PROJECTED_IMAGES = 1000;
const PROJECTED_RELEASES = 20;
const PROJECTED_GOAL_GIB = 10;

/** Bakes what is not kept yet, and says how long each took. */
export async function bakeCorpus(options: BenchOptions): Promise<Figure[]> {
  const directory = options.corpus?.keep;
  if (directory === undefined) throw new Error('where are the µVMs to be kept? (--keep)');
  const figures: Figure[] = [];
  for (const name of await bakeMissing(directory, options)) {
    const { description } = await readSet(directory, name);
    figures.push(figure({ name: `${name}, baked in`, unit: 's', values: [description.bakeMs / 1000] }));
  }
  return figures;
}

/** Puts a corpus into a fresh cache, and into the stores of others; bakes it first unless it was kept. */
export async function cacheOfCorpus(options: BenchOptions): Promise<Figure[]> {
  const scratch = await mkdtemp(join(tmpdir(), 'bench-corpus-'));
  try {
    const { keep, from, images }: CorpusOptions = options.corpus ?? {};
    const directory = from ?? keep ?? join(scratch, 'sets');
    const names =
      from === undefined ? await bakeMissing(directory, options) : (images ?? (await setNames(from)));
    if (names.length === 0) throw new Error(`${directory}: no µVM is kept there`);
    const sets: BakedSet[] = [];
    for (const name of names) sets.push(await readSet(directory, name));
    return await measureCorpus(sets, scratch, options);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function bakeMissing(directory: string, { corpus, say }: BenchOptions): Promise<readonly string[]> {
  await mkdir(directory, { recursive: true });
  const names = corpus?.images ?? (await corpusNames());
  for (const name of names) if (!(await hasSet(directory, name))) await bakeSet(directory, name, say);
  return names;
}

async function measureCorpus(
  sets: readonly BakedSet[],
  scratch: string,
  options: BenchOptions,
): Promise<Figure[]> {
  const { say } = options;
  const imagesDirectory = join(scratch, 'images');
  await mkdir(imagesDirectory);
  const cache = await openCache({ imagesDirectory }, join(scratch, 'cache'));
  const peers = await openPeers(join(scratch, 'peers'));
  const totals = new Map<Peer, number>(peers.map((peer) => [peer, 0]));
  const added: Added[] = [];
  const figures: Figure[] = [];
  try {
    for (const [index, set] of sets.entries()) {
      say(`${index + 1} of ${sets.length}: ${set.name}`);
      const before = await storedBytes(cache.directory);
      const imagePath = join(imagesDirectory, createHash('sha1').update(set.name).digest('hex'));
      await run('qemu-img', ['convert', '-O', 'raw', set.imagePath, imagePath], {
        timeout: CONVERT_TIMEOUT_MS,
      });
      figures.push(...(await measureSample(cache, set, scratch, options)));
      // Only its own µVM needs the image, and the next one's takes as much room.
      await rm(imagePath);
      const bytes = (await storedBytes(cache.directory)) - before;
      added.push({ image: set.name, bytes });
      say(`${set.name} added ${inMib(bytes)}`);
      for (const peer of peers) {
        await peer.add(set);
        const total = await peer.bytes();
        const peerBytes = total - (totals.get(peer) ?? 0);
        say(`${set.name} added ${inMib(peerBytes)} to ${peer.name}`);
        figures.push(besidePeer(`${set.name}, added`, bytes, peer, peerBytes));
        totals.set(peer, total);
      }
    }
    return [...figures, await measureIndex(scratch), ...sumUp(added, totals)];
  } finally {
    for (const peer of peers) await peer.close();
    await cache.close();
  }
}

/** The goals are about the smallest of those that find what µVMs have in common. */
function sumUp(added: readonly Added[], totals: ReadonlyMap<Peer, number>): Figure[] {
  const total = added.reduce((sum, { bytes }) => sum + bytes, 0);
  const smallest = Math.min(...[...totals].filter(([peer]) => peer.deduplicates).map(([, bytes]) => bytes));
  const figures = [...totals].map(([peer, bytes]) =>
    besidePeer(`all ${added.length}`, total, peer, bytes, peer.deduplicates && bytes === smallest),
  );
  const projection = project(added, PROJECTED_IMAGES, PROJECTED_RELEASES);
  if (projection === undefined) return figures;
  return [
    ...figures,
    figure({
      name: 'first image of a release, added, mean',
      unit: 'MiB',
      values: [projection.firstBytes / MIB],
    }),
    figure({
      name: 'later image of a release, added, mean',
      unit: 'MiB',
      values: [projection.laterBytes / MIB],
      goal: { of: 'value', bound: 'at most', limit: 8 },
    }),
    figure({
      name: `${projection.images} images of ${projection.releases} releases, projected`,
      unit: 'GiB',
      values: [projection.totalBytes / GIB],
      goal: { of: 'value', bound: 'at most', limit: PROJECTED_GOAL_GIB },
    }),
  ];
}

function besidePeer(name: string, bytes: number, peer: Peer, peerBytes: number, isBest = false): Figure {
  return figure({
    name,
    unit: 'MiB',
    values: [bytes / MIB],
    peer: { name: peer.name, values: [peerBytes / MIB] },
    ...(isBest && { goal: { of: 'ratio', bound: 'at most', limit: 0.333 } }),
  });
}

function inMib(bytes: number): string {
  return `${(bytes / MIB).toFixed(2)} MiB`;
}

/** What the µVMs take up; written-out files are not part of it. */
async function storedBytes(directory: string): Promise<number> {
  let bytes = 0;
  for (const part of ['packs', 'maps', 'uvms']) bytes += await sizeOf(join(directory, part));
  return bytes;
}
