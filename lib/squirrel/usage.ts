/** Where the bytes of a µVM are. For worker threads only. */
import { DamagedFile } from './errors';
import { LivePages, readMaps, type StoredUvm } from './live-pages';
import { PackSet } from './pack-reader';
import { IMAGE, PAGE_BYTES } from './page-map';

export interface UsageTask {
  readonly uvm: StoredUvm;
  /** All others of the cache. */
  readonly others: readonly StoredUvm[];
}

/** Bytes of a file of a µVM by where they are; the first four add up to its size in whole pages. */
export interface FileUsage {
  readonly zeroBytes: number;
  /** In the guest's own image. */
  readonly imageBytes: number;
  /** In pages that another µVM needs, too. */
  readonly sharedBytes: number;
  /** In pages that only this µVM needs: what its removal frees, before compression. */
  readonly ownBytes: number;
  /** What the own pages take on disk, compressed. */
  readonly ownStoredBytes: number;
}

/** Runs a UsageTask; one FileUsage per map. Others that cannot be read share nothing. */
export function usage(task: UsageTask): FileUsage[] {
  const set = new PackSet();
  try {
    const others = new LivePages(set);
    for (const other of task.others) {
      try {
        others.add(other);
      } catch (error) {
        if (!(error instanceof DamagedFile)) throw error;
      }
    }
    const counted = new Set<string>();
    return readMaps(task.uvm).map(({ extents }, file) => {
      const pages = Math.ceil((task.uvm.maps[file]?.sizeBytes ?? 0) / PAGE_BYTES);
      const count = { zero: pages, image: 0, shared: 0, own: 0 };
      let stored = 0;
      for (const extent of extents) {
        count.zero -= extent.pages;
        if (extent.pack === IMAGE) {
          count.image += extent.pages;
          continue;
        }
        const pack = task.uvm.packs[extent.pack];
        if (pack === undefined) continue;
        const reader = set.reader(pack);
        for (let page = extent.packPage; page < extent.packPage + extent.pages; page += 1) {
          if (others.has(pack.id, page)) {
            count.shared += 1;
            continue;
          }
          count.own += 1;
          const name = `${pack.id} ${page}`;
          if (!counted.has(name)) stored += reader.storedBytes(page);
          counted.add(name);
        }
      }
      return {
        zeroBytes: count.zero * PAGE_BYTES,
        imageBytes: count.image * PAGE_BYTES,
        sharedBytes: count.shared * PAGE_BYTES,
        ownBytes: count.own * PAGE_BYTES,
        ownStoredBytes: Math.round(stored),
      };
    });
  } finally {
    set.close();
  }
}
