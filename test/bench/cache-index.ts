/** How much memory it takes to find any page of a cache by its hash, as a bake does. */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { PackSet } from '../../lib/squirrel/pack-reader';
import { PAGE_HASH_BYTES } from '../../lib/squirrel/page-map';
import { PageTable } from '../../lib/squirrel/page-table';
import { figure, type Figure } from './figures';

/** Opens all packs of a cache and enters all their pages, as storing a µVM does; nothing of it stays afterwards. */
export async function measureIndex(directory: string): Promise<Figure> {
  const packs = (await readdir(join(directory, 'packs'))).filter((name) => name.endsWith('.pack'));
  const memoryBytes = (): number => {
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = memoryBytes();
  const set = new PackSet();
  const table = new PageTable(PAGE_HASH_BYTES);
  let pages = 0;
  try {
    for (const [pack, name] of packs.entries()) {
      const { index } = set.reader({ id: basename(name, '.pack'), path: join(directory, 'packs', name) });
      for (let page = 0; page < index.pages; page += 1) {
        table.add(index.hashes, page * PAGE_HASH_BYTES, { pack, page });
      }
      pages += index.pages;
    }
    return figure({
      name: `memory to find one of ${pages} stored pages, while a µVM is stored`,
      unit: 'bytes/page',
      values: [(memoryBytes() - before) / pages],
      goal: { of: 'value', bound: 'at most', limit: 64 },
    });
  } finally {
    set.close();
  }
}
