/**
 * Stores files of a µVM: zero pages nowhere, pages of the image as references to it, pages that some pack has as
 * references to that, the rest in a new pack, in the order they are met; those that resemble a page of a pack that the
 * µVM shares most with, or of the new one, as the difference to it. Synchronous: for worker threads only.
 */
import { closeSync, openSync } from 'node:fs';
import { encodeBlock, encodeBound } from 'lz4';
import { DamagedFile } from './errors';
import { forEachPage, readAt, ZERO_PAGE } from './file-pages';
import { BlockFinder } from './image-blocks';
import { pageHash, REFERABLE_PAGES, xorPage, type PackFile, type Reference } from './pack-format';
import { PackSet, type PackReader } from './pack-reader';
import { PackWriter } from './pack-writer';
import { HASH_BYTES, PAGE_BYTES, PageMapBuilder } from './page-map';
import { PageTable } from './page-table';
import { SimilarPages } from './similar-pages';

export interface StoreTask {
  /** Files to store, in order. */
  readonly files: readonly string[];
  /** Packs whose pages may be referred to; they are in one directory. */
  readonly packs: readonly PackFile[];
  /** The base file of the image, if its blocks may be referred to. */
  readonly imagePath: string | undefined;
  /** Where the pack of new pages is written. */
  readonly packPath: string;
}

export interface StoredPages {
  /** Per file of the task. */
  readonly files: readonly {
    map: Uint8Array;
    sizeBytes: number;
    pages: number;
    imagePages: number;
    newPages: number;
  }[];
  /** Packs that the maps need: first those they refer to, by position, then those that these are differences to. */
  readonly packIds: readonly string[];
  /** The pack that was written, or null when no page was new (there is no file then). */
  readonly newPack: { id: string; bytes: number } | null;
}

/** Packs whose pages new ones may be stored as differences to. */
const MAX_BASE_PACKS = 2;
/** A pack with fewer pages in common is of another suite: no page of it would help. */
const MIN_COMMON_PAGES = 32;
/** A difference has to be this much smaller, for each one costs a second page when it is read. */
const WORTH = 0.85;

/** Hashes of a µVM's pages that are not zero, in order of file and page, and where equal ones are. */
class DraftPages {
  readonly files: { sizeBytes: number; numbers: number[] }[] = [];
  readonly hashes: Buffer[] = [];
  readonly unique = new PageTable();
  readonly finder = new BlockFinder();

  constructor(paths: readonly string[], progress: (share: number) => void) {
    paths.forEach((path, position) => {
      const numbers: number[] = [];
      const sizeBytes = forEachPage(path, (page, number, pages) => {
        if (number % 16384 === 0) progress((position + number / pages) / paths.length);
        if (page.equals(ZERO_PAGE)) return;
        const digest = pageHash(page);
        this.unique.add(digest, 0, { pack: 0, page: this.hashes.length });
        this.hashes.push(digest);
        this.finder.want(page);
        numbers.push(number);
      });
      this.files.push({ sizeBytes, numbers });
    });
  }
}

/** Runs a StoreTask. `progress` is told percent. */
export function store(task: StoreTask, progress: (percent: number) => void): StoredPages {
  const set = new PackSet();
  const draft = new DraftPages(task.files, (share) => progress(share * 10));
  const blocks =
    task.imagePath === undefined
      ? new Float64Array(draft.hashes.length).fill(-1)
      : draft.finder.find(task.imagePath, draft.unique, draft.hashes.length, (share) =>
          progress(10 + share * 20),
        );
  const readers = task.packs.map((file) => openSound(set, file));
  const { table, common } = knownPages(readers, draft, blocks);
  const bases = pickBases(readers, common);
  const own = task.packs.length;
  const writer = new PackWriter(
    task.packPath,
    bases.map((base) => task.packs[base]?.id ?? ''),
  );
  const fds: number[] = [];
  const newPages: { fd: number; number: number }[] = [];
  const differences = new Differences(
    bases.flatMap((base) => readers[base] ?? []),
    draft.hashes.length,
    (position, into) => {
      const source = newPages[position];
      if (source !== undefined) readPage(source.fd, source.number, into);
    },
  );
  try {
    for (const path of task.files) fds.push(openSync(path, 'r'));
    let position = 0;
    const stored = draft.files.map(({ sizeBytes, numbers }, file) => {
      const path = task.files[file] ?? '';
      const fd = fds[file] ?? -1;
      const map = new PageMapBuilder();
      const before = writer.pages;
      const page = Buffer.alloc(PAGE_BYTES);
      for (const number of numbers) {
        if (position % 256 === 0) progress(30 + (position / draft.hashes.length) * 70);
        const digest = draft.hashes[position] ?? ZERO_PAGE;
        const block = blocks[draft.unique.find(digest)?.page ?? position] ?? -1;
        position += 1;
        if (block >= 0) {
          map.addImage(number, block, digest);
          continue;
        }
        let place = table.find(digest);
        if (place === undefined) {
          readPage(fd, number, page);
          // The guest that owns these files is gone; whoever changed them since would be stored under a wrong hash.
          if (!pageHash(page).equals(digest)) throw new DamagedFile(path, 'changed while it was stored');
          const { bytes, reference } = differences.best(page);
          place = { pack: own, page: writer.append(bytes, digest, reference) };
          table.add(digest, 0, place);
          newPages.push({ fd, number });
          if (reference === undefined) differences.addOwn(page, place.page);
        }
        map.add(number, place.pack, place.page);
      }
      const { imagePages } = map;
      return { map, sizeBytes, pages: numbers.length, imagePages, newPages: writer.pages - before };
    });
    const newPack = writer.finish();
    const packs = [...new Set(stored.flatMap((file) => file.map.packsInUse()))];
    const order = new Map(packs.map((pack, at) => [pack, at]));
    const ids = packs.map((pack) => task.packs[pack]?.id ?? newPack.id);
    const needed = packs.flatMap((pack) =>
      pack === own ? bases.map((base) => task.packs[base]?.id ?? '') : baseIds(readers[pack]),
    );
    return {
      files: stored.map(({ map, ...file }) => ({ ...file, map: map.serialise(order) })),
      packIds: [...new Set([...ids, ...needed])],
      newPack: packs.includes(own) ? newPack : null,
    };
  } catch (error) {
    writer.abandon();
    throw error;
  } finally {
    for (const fd of fds) closeSync(fd);
    set.close();
  }
}

/** A page of a file; what is beyond the file's end is zero. */
function readPage(fd: number, number: number, into: Buffer): void {
  into.fill(0, readAt(fd, into, number * PAGE_BYTES));
}

function baseIds(reader: PackReader | undefined): string[] {
  return (reader?.bases ?? []).map((base) => base.id);
}

/** A pack whose index is sound, and those of its base packs; another is nothing to refer to. */
function openSound(set: PackSet, file: PackFile): PackReader | undefined {
  try {
    const reader = set.reader(file);
    for (const base of reader.bases) set.reader(base);
    return reader;
  } catch (error) {
    if (error instanceof DamagedFile) return undefined;
    throw error;
  }
}

/** The pages of all packs by hash, and per pack how many of the draft's it has that the image does not have. */
function knownPages(
  readers: readonly (PackReader | undefined)[],
  draft: DraftPages,
  blocks: Float64Array,
): { table: PageTable; common: number[] } {
  const table = new PageTable();
  const common = readers.map((reader, pack) => {
    let count = 0;
    for (let page = 0; page < (reader?.pages ?? 0); page += 1) {
      const hashes = reader?.hashes ?? ZERO_PAGE;
      table.add(hashes, page * HASH_BYTES, { pack, page });
      const place = draft.unique.find(hashes, page * HASH_BYTES);
      if (place !== undefined && (blocks[place.page] ?? -1) < 0) count += 1;
    }
    return count;
  });
  return { table, common };
}

/** Positions of the packs that most pages are in common with. */
function pickBases(readers: readonly (PackReader | undefined)[], common: readonly number[]): number[] {
  return common
    .map((count, pack) => ({ count, pack }))
    .filter(({ count, pack }) => count >= MIN_COMMON_PAGES && readers[pack] !== undefined)
    .sort((a, b) => b.count - a.count)
    .slice(0, MAX_BASE_PACKS)
    .map(({ pack }) => pack);
}

/** Chooses how a new page is stored: as it is, or as its difference to a page that is stored as it is. */
class Differences {
  private readonly similar: SimilarPages;
  private readonly places: Reference[] = [];
  private readonly packed = Buffer.alloc(encodeBound(PAGE_BYTES));
  private readonly attempt = Buffer.alloc(PAGE_BYTES);
  private readonly smallest = Buffer.alloc(PAGE_BYTES);

  constructor(
    private readonly bases: readonly PackReader[],
    pages: number,
    /** Reads a page of the new pack from where it came from. */
    private readonly readOwn: (position: number, into: Buffer) => void,
  ) {
    this.similar = new SimilarPages(bases.reduce((sum, base) => sum + base.pages, pages));
    const page = Buffer.alloc(PAGE_BYTES);
    bases.forEach((reader, base) => {
      for (let position = 0; position < Math.min(reader.pages, REFERABLE_PAGES); position += 1) {
        if (reader.reference(position) !== undefined) continue;
        reader.copyStored(position, page, 0);
        this.add(page, { base, page: position });
      }
    });
  }

  /** A page of the new pack that was stored as it is. */
  addOwn(page: Buffer, position: number): void {
    if (position >= REFERABLE_PAGES) return;
    this.add(page, { base: undefined, page: position });
  }

  /** What to store for a page; the bytes are valid until the next call. */
  best(page: Buffer): { bytes: Buffer; reference: Reference | undefined } {
    let limit = this.cost(page) * WORTH;
    let reference: Reference | undefined;
    for (const number of this.similar.candidates(page)) {
      const place = this.places[number];
      if (place === undefined) continue;
      this.load(place, this.attempt);
      xorPage(this.attempt, 0, page, 0);
      const cost = this.cost(this.attempt);
      if (cost >= limit) continue;
      limit = cost;
      reference = place;
      this.attempt.copy(this.smallest);
    }
    return { bytes: reference === undefined ? page : this.smallest, reference };
  }

  private add(page: Buffer, place: Reference): void {
    this.similar.add(page, this.places.length);
    this.places.push(place);
  }

  private load({ base, page }: Reference, into: Buffer): void {
    if (base === undefined) this.readOwn(page, into);
    else this.bases[base]?.read(page, into, 0);
  }

  /** Bytes that a page takes by itself: a good guess of what it takes in its frame. */
  private cost(page: Buffer): number {
    return encodeBlock(page, this.packed) || PAGE_BYTES;
  }
}
