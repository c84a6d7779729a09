/**
 * The heavy work of the cache, as it runs in worker threads: storing files into a pack, writing files back out of
 * packs, and checking packs. Synchronous by design; nothing here may be called from the main thread.
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { DamagedFile } from './errors';
import { HASH_BYTES, PackReader, PackWriter, pageHash } from './pack';
import { PAGE_BYTES, PageMapBuilder, type Extent } from './page-map';
import { PageTable } from './page-table';

/** A pack on disk. */
export interface PackFile {
  readonly id: string;
  readonly path: string;
}

export interface StoreTask {
  /** Files to store, in order. */
  readonly files: readonly string[];
  /** Packs whose pages may be referred to. */
  readonly packs: readonly PackFile[];
  /** Where the pack of new pages is written. */
  readonly packPath: string;
}

export interface StoredPages {
  /** Per file of the task. */
  readonly files: readonly { map: Uint8Array; sizeBytes: number; pages: number; newPages: number }[];
  /** Packs that the maps refer to, by position. */
  readonly packIds: readonly string[];
  /** The pack that was written, or null when no page was new (there is no file then). */
  readonly newPack: { id: string; bytes: number } | null;
}

export interface WriteTask {
  readonly extents: readonly Extent[];
  readonly packs: readonly PackFile[];
  /** An existing file; its pages outside the extents are left alone. */
  readonly path: string;
}

export interface CompareTask {
  readonly extents: readonly Extent[];
  readonly packs: readonly PackFile[];
  readonly path: string;
  readonly sizeBytes: number;
}

/** What the worker threads can do: input and output by name. */
export interface Tasks {
  store: { input: StoreTask; output: StoredPages };
  write: { input: WriteTask; output: { pages: number } };
  check: { input: PackFile; output: { pages: number } };
  compare: { input: CompareTask; output: { pages: number } };
}
export type TaskName = keyof Tasks;
export type TaskRunner = {
  [Name in TaskName]: (
    input: Tasks[Name]['input'],
    progress: (percent: number) => void,
  ) => Tasks[Name]['output'];
};

const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);
const CHUNK_PAGES = 256;

/** Calls `each` for every page of a file; the last one is padded with zeros. Returns the file's size. */
function forEachPage(path: string, each: (page: Buffer, number: number, pages: number) => void): number {
  const fd = openSync(path, 'r');
  try {
    const sizeBytes = fstatSync(fd).size;
    const pages = Math.ceil(sizeBytes / PAGE_BYTES);
    const chunk = Buffer.alloc(CHUNK_PAGES * PAGE_BYTES);
    for (let first = 0; first < pages; first += CHUNK_PAGES) {
      const wanted = Math.min(sizeBytes - first * PAGE_BYTES, chunk.length);
      let filled = 0;
      while (filled < wanted) {
        const count = readSync(fd, chunk, filled, wanted - filled, first * PAGE_BYTES + filled);
        if (count === 0) throw new DamagedFile(path, 'became shorter while it was read');
        filled += count;
      }
      if (filled % PAGE_BYTES !== 0) chunk.fill(0, filled, Math.ceil(filled / PAGE_BYTES) * PAGE_BYTES);
      for (let page = 0; page * PAGE_BYTES < filled; page += 1) {
        each(chunk.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES), first + page, pages);
      }
    }
    return sizeBytes;
  } finally {
    closeSync(fd);
  }
}

/** A pack whose index is sound; another is nothing to refer to. */
function openSound(file: PackFile): PackReader | undefined {
  try {
    return new PackReader(file.path, file.id);
  } catch (error) {
    if (error instanceof DamagedFile) return undefined;
    throw error;
  }
}

/** Stores files: pages that no pack has go into a new one, in the order they are met. */
function store(task: StoreTask, progress: (percent: number) => void): StoredPages {
  const table = new PageTable();
  task.packs.forEach((file, pack) => {
    const reader = openSound(file);
    if (reader === undefined) return;
    for (let page = 0; page < reader.pages; page += 1)
      table.add(reader.hashes, page * HASH_BYTES, { pack, page });
    reader.close();
  });
  const own = task.packs.length;
  const writer = new PackWriter(task.packPath);
  try {
    const stored = task.files.map((path, position) => {
      const map = new PageMapBuilder();
      const before = writer.pages;
      let used = 0;
      const sizeBytes = forEachPage(path, (page, number, pages) => {
        if (number % 4096 === 0) progress(((position + number / pages) / task.files.length) * 100);
        if (page.equals(ZERO_PAGE)) return;
        const digest = pageHash(page);
        let place = table.find(digest);
        if (place === undefined) {
          place = { pack: own, page: writer.append(page, digest) };
          table.add(digest, 0, place);
        }
        map.add(number, place.pack, place.page);
        used += 1;
      });
      return { map, sizeBytes, pages: used, newPages: writer.pages - before };
    });
    const newPack = writer.finish();
    const packs = [...new Set(stored.flatMap((file) => file.map.packsInUse()))];
    const order = new Map(packs.map((pack, position) => [pack, position]));
    return {
      files: stored.map(({ map, ...file }) => ({ ...file, map: map.serialise(order) })),
      packIds: packs.map((pack) => task.packs[pack]?.id ?? newPack.id),
      newPack: packs.includes(own) ? newPack : null,
    };
  } catch (error) {
    writer.abandon();
    throw error;
  }
}

/** Opens packs as they are first needed. */
class Packs {
  private readonly open = new Map<number, PackReader>();
  constructor(private readonly files: readonly PackFile[]) {}

  page(pack: number, page: number): Buffer {
    let reader = this.open.get(pack);
    if (reader === undefined) {
      const file = this.files[pack];
      if (file === undefined) throw new RangeError(`no pack ${pack}`);
      reader = new PackReader(file.path, file.id);
      this.open.set(pack, reader);
    }
    return reader.page(page);
  }

  close(): void {
    for (const reader of this.open.values()) reader.close();
  }
}

/** Writes the pages of the extents to their places in a file, each checked against its hash. */
function write(task: WriteTask): { pages: number } {
  const packs = new Packs(task.packs);
  const fd = openSync(task.path, 'r+');
  const run = Buffer.alloc(CHUNK_PAGES * PAGE_BYTES);
  let pages = 0;
  try {
    for (const extent of task.extents) {
      for (let done = 0; done < extent.pages;) {
        const count = Math.min(extent.pages - done, CHUNK_PAGES);
        for (let page = 0; page < count; page += 1) {
          packs.page(extent.pack, extent.packPage + done + page).copy(run, page * PAGE_BYTES);
        }
        const bytes = count * PAGE_BYTES;
        const at = (extent.filePage + done) * PAGE_BYTES;
        for (let written = 0; written < bytes;) {
          written += writeSync(fd, run, written, bytes - written, at + written);
        }
        done += count;
      }
      pages += extent.pages;
    }
    return { pages };
  } finally {
    closeSync(fd);
    packs.close();
  }
}

/** Reads every page of a pack. */
function check(file: PackFile): { pages: number } {
  const reader = new PackReader(file.path, file.id);
  try {
    for (let page = 0; page < reader.pages; page += 1) reader.page(page);
    return { pages: reader.pages };
  } finally {
    reader.close();
  }
}

/** Checks a written-out file against the pages it was made of: extents equal, everything else zero. */
function compare(task: CompareTask): { pages: number } {
  const packs = new Packs(task.packs);
  try {
    let position = 0;
    const size = forEachPage(task.path, (page, number) => {
      let extent = task.extents[position];
      while (extent !== undefined && extent.filePage + extent.pages <= number) {
        position += 1;
        extent = task.extents[position];
      }
      const expected =
        extent !== undefined && extent.filePage <= number
          ? packs.page(extent.pack, extent.packPage + number - extent.filePage)
          : ZERO_PAGE;
      if (!page.equals(expected)) throw new DamagedFile(task.path, `page ${number} is not what was stored`);
    });
    if (size !== task.sizeBytes) throw new DamagedFile(task.path, `has ${size} bytes, not ${task.sizeBytes}`);
    return { pages: Math.ceil(size / PAGE_BYTES) };
  } finally {
    packs.close();
  }
}

export const TASKS: TaskRunner = { store, write, check, compare };
