/**
 * A process of its own that does with the indexes of packs what storing a µVM does with them, and says by how much its
 * resident memory has grown: `index-memory.ts DIRECTORY`, with a directory of packs. Needs `--expose-gc`.
 */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { PackSet } from '../../lib/squirrel/pack-reader';
import { PackPages } from '../../lib/squirrel/pack-pages';
import { PAGE_HASH_BYTES } from '../../lib/squirrel/page-map';

/** What it prints, as JSON. */
export interface IndexMemory {
  readonly pages: number;
  /** Resident, without what a process of one small pack has. */
  readonly grownBytes: number;
}

interface Index {
  readonly set: PackSet;
  readonly stored: PackPages;
  readonly pages: number;
}

function residentBytes(): number {
  for (let turn = 0; turn < 3; turn += 1) global.gc?.();
  return process.memoryUsage.rss();
}

function enter(directory: string, names: readonly string[]): Index {
  const set = new PackSet();
  const indexes = names.map(
    (name) => set.reader({ id: basename(name, '.pack'), path: join(directory, name) }).index,
  );
  const stored = new PackPages(indexes.map(({ hashes }) => hashes));
  return { set, stored, pages: indexes.reduce((sum, { pages }) => sum + pages, 0) };
}

const [directory = ''] = process.argv.slice(2);
const names = readdirSync(directory).filter((name) => name.endsWith('.pack'));
// The first one loads and compiles what is not the index.
enter(directory, names.slice(0, 1)).set.close();
const before = residentBytes();
const { set, stored, pages } = enter(directory, names);
const memory: IndexMemory = { pages, grownBytes: residentBytes() - before };
// Both are needed until here.
if (stored.find(Buffer.alloc(PAGE_HASH_BYTES)) === undefined) set.close();
process.stdout.write(JSON.stringify(memory));
