/**
 * How much memory it takes to find any page of a cache by its hash, as a bake does: on packs of a
 * hundred images, in the real format but with nothing in their segments, which an index is not about.
 */
import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LZ4 } from '../../lib/squirrel/codec';
import { SEGMENT_PAGES, makePrefix } from '../../lib/squirrel/pack-format';
import { assemble } from '../../lib/squirrel/pack-writer';
import { PAGE_HASH_BYTES } from '../../lib/squirrel/page-map';
import { figure, type Figure } from './figures';
import type { IndexMemory } from './index-memory';

const run = promisify(execFile);
const TIMEOUT_MS = 300_000;
/** The first image of a release, and those that build on it, which have fewer pages of their own. */
const RELEASES = 5;
const LATER = 20;
const FIRST_PAGES = 20_000;
const LATER_PAGES = 6_000;
/** Every eighth page of the base, in runs of one: more runs than a bake makes. */
const PREFIX_STEP = 8;

/** Makes packs below `scratch` and measures with them; nothing of it stays afterwards. */
export async function measureIndex(scratch: string): Promise<Figure> {
  const directory = join(scratch, 'index');
  await mkdir(directory);
  try {
    for (let release = 0; release < RELEASES; release += 1) {
      const base = await makePack(directory, FIRST_PAGES, []);
      for (let later = 0; later < LATER; later += 1) await makePack(directory, LATER_PAGES, [base]);
    }
    const script = join(__dirname, 'index-memory.ts');
    const loader = join(__dirname, '../register-typescript.cjs');
    const { stdout } = await run(process.execPath, ['--expose-gc', '--require', loader, script, directory], {
      timeout: TIMEOUT_MS,
    });
    const { pages, grownBytes } = JSON.parse(stdout) as IndexMemory;
    return figure({
      name: `resident memory to find one of ${pages} stored pages, while a µVM is stored`,
      unit: 'bytes/page',
      values: [grownBytes / pages],
      goal: { of: 'value', bound: 'at most', limit: 64 },
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function makePack(directory: string, pages: number, bases: readonly string[]): Promise<string> {
  const path = join(directory, 'staged');
  const candidates = Array.from({ length: FIRST_PAGES / PREFIX_STEP }, (_, at) => ({
    base: 0,
    page: at * PREFIX_STEP,
  }));
  const prefix = bases.length === 0 ? [] : makePrefix(candidates);
  const segment = { codec: LZ4, stored: Buffer.alloc(1), prefix };
  const { id } = assemble({
    path,
    segments: Array.from({ length: Math.ceil(pages / SEGMENT_PAGES) }, () => segment),
    bases,
    hashes: randomFillSync(Buffer.alloc(pages * PAGE_HASH_BYTES)),
    pages,
  });
  await rename(path, join(directory, `${id}.pack`));
  return id;
}
