/**
 * How small the cache keeps µVMs, and how fast it writes them out, against `lz4` on the same RAM files. Works on copies of
 * the µVMs that this host has baked: the service's own cache is only read.
 */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import { loadConfig } from '../../lib/config';
import { Squirrel, squirrelOptions, type UvmDescription, type UvmFileName } from '../../lib/squirrel';
import { NOVA_CONF } from '../support/nova-api';
import { measureIndex } from './cache-index';
import { figure, type Figure } from './figures';
import type { BenchOptions } from './main';

const run = promisify(execFile);
const logger = pino({ level: 'silent' });
const MIB = 1024 ** 2;
const TOOL_TIMEOUT_MS = 120_000;

/** A baked µVM, its files as clones map them. */
export interface Sample {
  /** What figures call it. */
  readonly name: string;
  /** Whether the cache has another µVM of its image. */
  readonly isAnotherBake?: boolean;
  readonly description: UvmDescription;
  readonly files: Readonly<Record<UvmFileName, string>>;
}

/** Where the µVMs are copied from. */
export interface CacheSource {
  readonly directory: string;
  readonly imagesDirectory: string;
}

/** Measures on the µVMs of the service's cache. */
export async function cache(options: BenchOptions): Promise<Figure[]> {
  return await measureCache(squirrelOptions(await loadConfig([NOVA_CONF]), logger), options);
}

/** Measures on the µVMs of a cache, which is not changed. */
export async function measureCache(source: CacheSource, options: BenchOptions): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'bench-cache-'));
  try {
    options.say('copying the cache');
    const copy = await openCache(source, await copyStore(source.directory, join(directory, 'copy')));
    const fresh = await openCache(source, join(directory, 'fresh'));
    try {
      const samples = await takeSamples(copy);
      const figures: Figure[] = [];
      for (const sample of samples) figures.push(...(await measureSample(fresh, sample, directory, options)));
      return [...figures, await measureIndex(directory)];
    } finally {
      await copy.close();
      await fresh.close();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Everything but what is written out: that is measured. */
async function copyStore(from: string, to: string): Promise<string> {
  for (const part of ['packs', 'maps', 'uvms', 'quarantine']) {
    await cp(join(from, part), join(to, part), { recursive: true });
  }
  return to;
}

/** A cache that may grow as it likes. */
export async function openCache(
  { imagesDirectory }: Pick<CacheSource, 'imagesDirectory'>,
  directory: string,
): Promise<Squirrel> {
  const limits = { materialisedBytes: Infinity, reserveBytes: 0 };
  return await Squirrel.open({ directory, imagesDirectory, limits, logger });
}

/** All sound µVMs, the oldest first: in the order in which a host came to have them. */
async function takeSamples(from: Squirrel): Promise<Sample[]> {
  const entries = (await from.list()).flatMap((entry) => (entry.state === 'ok' ? [entry.manifest] : []));
  if (entries.length === 0) throw new Error(`${NOVA_CONF}: there is no µVM in the cache, bake one first`);
  const samples: Sample[] = [];
  const images = new Set<string>();
  for (const manifest of entries.sort((a, b) => a.bakedAt.localeCompare(b.bakedAt))) {
    const { key, image, platform, memoryMb, gateVersion, bakedAt, bakeMs } = manifest;
    const { ramPath, diskDeltaPath, statePath } = await from.materialise(key);
    const isAnotherBake = images.has(image.id);
    images.add(image.id);
    samples.push({
      name: `${isAnotherBake ? 'another bake' : 'µVM'} of image ${image.id.slice(0, 8)} (${key.slice(0, 8)})`,
      isAnotherBake,
      description: { key, image, platform, memoryMb, gateVersion, bakedAt, bakeMs },
      files: { ram: ramPath, disk: diskDeltaPath, state: statePath },
    });
  }
  return samples;
}

/** Stores a µVM in a cache and writes it out, beside `lz4` on its RAM file. */
export async function measureSample(
  fresh: Squirrel,
  sample: Sample,
  directory: string,
  { runs, say }: BenchOptions,
): Promise<Figure[]> {
  const { name, isAnotherBake } = sample;
  const { key } = sample.description;
  say(`storing: ${name}`);
  const storeStarted = performance.now();
  const { addedBytes } = await fresh.add(sample);
  await fresh.release(key);
  const storeMs = performance.now() - storeStarted;

  const packed = join(directory, 'ram.lz4');
  const unpacked = join(directory, 'ram');
  await run('lz4', ['-q', '-f', '-1', '--sparse', sample.files.ram, packed], { timeout: TOOL_TIMEOUT_MS });
  const lz4Bytes = (await stat(packed)).size;
  const times: Record<'hot' | 'cold' | 'lz4Hot' | 'lz4Cold', number[]> = {
    hot: [],
    cold: [],
    lz4Hot: [],
    lz4Cold: [],
  };
  for (let turn = 0; turn < runs; turn += 1) {
    say(`writing it out, ${turn + 1} of ${runs}`);
    const decode = (): Promise<unknown> =>
      run('lz4', ['-d', '-q', '-f', '--sparse', packed, unpacked], { timeout: TOOL_TIMEOUT_MS });
    const writeOut = (): Promise<unknown> => fresh.materialise(key);
    for (const [times_, isCold, work] of [
      [times.lz4Cold, true, decode],
      [times.cold, true, writeOut],
      [times.lz4Hot, false, decode],
      [times.hot, false, writeOut],
    ] as const) {
      await rm(unpacked, { force: true });
      await rm(join(fresh.directory, 'materialised', key), { recursive: true, force: true });
      if (isCold) await dropCaches([packed, ...(await storeFiles(fresh.directory))]);
      const started = performance.now();
      await work();
      times_.push(performance.now() - started);
    }
  }
  await rm(join(fresh.directory, 'materialised', key), { recursive: true, force: true });
  say('verifying it');
  const verifyStarted = performance.now();
  const { pages, problems } = await fresh.verify(key);
  const verifyS = (performance.now() - verifyStarted) / 1000;
  if (problems.length > 0) throw new Error(problems.join('; '));
  const lz4 = 'lz4 -d of the RAM file';
  return [
    figure({
      name: `${name}, added to the cache`,
      unit: 'MiB',
      values: [addedBytes / MIB],
      peer: { name: 'lz4 -1 of the RAM file', values: [lz4Bytes / MIB] },
      ...(isAnotherBake === true && { goal: { of: 'value', bound: 'at most', limit: 8 } }),
    }),
    figure({ name: `${name}, stored in`, unit: 'ms', values: [storeMs] }),
    figure({
      name: `${name}, written out and checked, hot`,
      unit: 'ms',
      values: times.hot,
      peer: { name: lz4, values: times.lz4Hot },
      goal: { of: 'ratio', bound: 'at most', limit: 0.6 },
    }),
    figure({
      name: `${name}, written out and checked, cold`,
      unit: 'ms',
      values: times.cold,
      peer: { name: lz4, values: times.lz4Cold },
    }),
    figure({
      name: `${name}, verified page by page`,
      unit: 'MiB/s',
      values: [(pages * 4096) / MIB / verifyS],
    }),
  ];
}

async function storeFiles(directory: string): Promise<string[]> {
  const files: string[] = [];
  for (const part of ['packs', 'maps', 'uvms']) {
    for (const name of await readdir(join(directory, part))) files.push(join(directory, part, name));
  }
  return files;
}

/** Has the kernel forget the content of files; the image's base file stays warm, as on a host that runs its servers. */
async function dropCaches(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await run('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'], {
      timeout: TOOL_TIMEOUT_MS,
    });
  }
}
