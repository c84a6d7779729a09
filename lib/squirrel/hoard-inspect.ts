/**
 * Reads a µVM that came from elsewhere to the last page before anything may refer to it. Synchronous: for worker threads
 * only.
 */
import { basename } from 'node:path';
import { DamagedFile } from './errors';
import { readMaps, type StoredUvm } from './live-pages';
import { PackSet, readPages } from './pack-reader';
import { IMAGE } from './page-map';
import { planRestore } from './restore-plan';

export interface InspectTask {
  readonly uvm: StoredUvm;
  /** Ids of the packs that came; the others were checked when they did. */
  readonly fresh: readonly string[];
}

/**
 * Runs an InspectTask: page maps and indexes are those that the manifest names, every page of the new packs has its hash,
 * and nothing leads out of what the manifest names. Blocks of the image are checked when the µVM is written out.
 * @throws DamagedFile
 */
export function inspect(task: InspectTask): { pages: number } {
  const set = new PackSet();
  const named = new Set(task.uvm.packs.map((pack) => pack.id));
  let pages = 0;
  try {
    for (const file of task.uvm.packs) {
      const reader = set.reader(file);
      const stray = reader.bases.find((base) => !named.has(base.id));
      if (stray !== undefined) {
        throw new DamagedFile(file.path, `needs pack ${stray.id}, which the manifest does not name`);
      }
      if (!task.fresh.includes(file.id)) continue;
      pages += readPages(reader);
    }
    for (const [position, { extents }] of readMaps(task.uvm).entries()) {
      for (const extent of extents) {
        if (extent.pack === IMAGE) continue;
        const file = task.uvm.packs[extent.pack];
        if (file !== undefined && extent.packPage + extent.pages <= set.reader(file).pages) continue;
        const path = task.uvm.maps[position]?.path ?? '';
        throw new DamagedFile(path, `refers to pages that ${basename(file?.path ?? '')} does not have`);
      }
    }
    // Also what only shows when it is written out.
    planRestore(task.uvm);
    return { pages };
  } finally {
    set.close();
  }
}
