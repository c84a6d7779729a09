/**
 * Plans how the files of a µVM are stored: zero pages nowhere, pages of the image as references to it, pages that some
 * pack has as references to that, the rest as segments of a new pack. Each segment gets as its prefix the pages that
 * resemble its own in the packs that the µVM shares most with. Synchronous: for worker threads only.
 */
import { closeSync, openSync } from 'node:fs';
import { DamagedFile } from './errors';
import { forEachPage, readAt, ZERO_PAGE } from './file-pages';
import { BlockFinder, ImageReader } from './image-blocks';
import {
  MAX_BASES,
  makePrefix,
  pageHash,
  SEGMENT_PAGES,
  segmentPages,
  type PackFile,
  type PrefixRun,
} from './pack-format';
import { PackPages } from './pack-pages';
import { PackSet, type PackReader } from './pack-reader';
import type { EncodeTask, PageSource } from './pack-writer';
import { IMAGE, PAGE_BYTES, PAGE_HASH_BYTES, PageMapBuilder } from './page-map';
import { PageTable, STRONG_HASH_BYTES, type PagePlace } from './page-table';
import { SimilarPages } from './similar-pages';

export interface StoreTask {
  /** Files to store, in order. */
  readonly files: readonly string[];
  /** Packs whose pages may be referred to; they are in one directory. */
  readonly packs: readonly PackFile[];
  /** The base file of the image, if its blocks may be referred to. */
  readonly imagePath: string | undefined;
}

/** A pack that is to be made. */
export interface PlannedPack {
  readonly segments: readonly EncodeTask[];
  /** Names of the base packs. */
  readonly bases: readonly string[];
  readonly pages: number;
  /** PAGE_HASH_BYTES per page. */
  readonly hashes: Uint8Array;
}

/** How a µVM is stored. */
export interface StorePlan {
  /** Per file of the task. */
  readonly files: readonly {
    map: Uint8Array;
    sizeBytes: number;
    pages: number;
    imagePages: number;
    newPages: number;
  }[];
  /** Packs that the maps need, null for the new one: those they refer to, by position, then those that these build on. */
  readonly packs: readonly (string | null)[];
  /** Null when no page is new. */
  readonly newPack: PlannedPack | null;
}

/**
 * Of the pages that the image does not have, at least what two images of a release have in common: they share a third and
 * more, images of different releases a hundredth. The first of a release is to build on nothing, so that the others can build on it.
 */
const MIN_COMMON_SHARE = 1 / 16;
/** Of a segment, what makes it worth decoding it whole; those of the bases are decoded anyway. */
const MIN_SEGMENT_SHARE = 1 / 8;

/** Hashes of a µVM's pages that are not zero, in order of file and page, and where equal ones are. */
class DraftPages {
  readonly files: { path: string; sizeBytes: number; numbers: number[] }[] = [];
  readonly hashes: Buffer[] = [];
  readonly unique = new PageTable(STRONG_HASH_BYTES);
  readonly finder = new BlockFinder();

  constructor(paths: readonly string[], progress: (share: number) => void) {
    paths.forEach((path, position) => {
      const numbers: number[] = [];
      const sizeBytes = forEachPage(path, (page, number, pages) => {
        if (number % 16384 === 0) progress((position + number / pages) / paths.length);
        if (page.equals(ZERO_PAGE)) return;
        const digest = pageHash(page, STRONG_HASH_BYTES);
        this.unique.add(digest, 0, { pack: 0, page: this.hashes.length });
        this.hashes.push(digest);
        this.finder.want(page);
        numbers.push(number);
      });
      this.files.push({ path, sizeBytes, numbers });
    });
  }
}

/** Runs a StoreTask. `progress` is told percent of the planning. */
export function planStore(task: StoreTask, progress: (percent: number) => void): StorePlan {
  const set = new PackSet();
  const image = task.imagePath === undefined ? undefined : new ImageReader(task.imagePath);
  const fds: number[] = [];
  try {
    const draft = new DraftPages(task.files, (share) => progress(share * 40));
    const blocks =
      task.imagePath === undefined
        ? new Float64Array(draft.hashes.length).fill(-1)
        : draft.finder.find(task.imagePath, draft.unique, draft.hashes.length, (share) =>
            progress(40 + share * 30),
          );
    const readers = task.packs.map((file) => openSound(set, file));
    const wanted = wantedPages(draft, blocks);
    const bases = pickBases(readers, wanted);
    const known = new KnownPages(readers, bases, wanted);
    const own = task.packs.length;
    const pack = new PackPlanner(bases.flatMap((base) => readers[base] ?? []));
    const page = Buffer.alloc(PAGE_BYTES);
    let position = 0;
    const stored = draft.files.map(({ path, sizeBytes, numbers }) => {
      const fd = openSync(path, 'r');
      fds.push(fd);
      const map = new PageMapBuilder();
      const fromImage: Buffer[] = [];
      const before = pack.pages;
      for (const number of numbers) {
        if (position % 256 === 0) progress(70 + (position / draft.hashes.length) * 30);
        const digest = draft.hashes[position] ?? ZERO_PAGE;
        const block = blocks[draft.unique.find(digest)?.page ?? position] ?? -1;
        position += 1;
        if (block >= 0) {
          map.add(number, IMAGE, block);
          fromImage.push(digest);
          continue;
        }
        let place = known.own.find(digest);
        if (place === undefined) {
          readPage(fd, number, page);
          const there = known.find(page, digest);
          place = there ?? { pack: own, page: pack.append(path, number, page, digest) };
          known.own.add(digest, 0, place);
        }
        map.add(number, place.pack, place.page);
      }
      const imageDigests = image?.digests(map.imageExtents(), fromImage) ?? Buffer.alloc(0);
      const newPages = pack.pages - before;
      return { map, imageDigests, sizeBytes, pages: numbers.length, imagePages: map.imagePages, newPages };
    });
    const packs = [...new Set(stored.flatMap((file) => file.map.packsInUse()))];
    const order = new Map(packs.map((number, at) => [number, at]));
    const nameOf = (number: number): string | null => task.packs[number]?.id ?? null;
    const needed = packs.flatMap((number): readonly (string | null)[] =>
      number === own ? bases.map(nameOf) : (readers[number]?.index.bases ?? []),
    );
    return {
      files: stored.map(({ map, imageDigests, ...file }) => ({
        ...file,
        map: map.serialise(order, imageDigests),
      })),
      packs: [...new Set([...packs.map(nameOf), ...needed])],
      newPack: pack.pages === 0 ? null : pack.finish(bases.flatMap((base) => task.packs[base] ?? [])),
    };
  } finally {
    for (const fd of fds) closeSync(fd);
    image?.close();
    set.close();
  }
}

/** A page of a file; what is beyond the file's end is zero. */
function readPage(fd: number, number: number, into: Buffer): void {
  into.fill(0, readAt(fd, into, number * PAGE_BYTES));
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

/** Hashes of the pages that the image does not have, as packs have them: each once. */
interface WantedPages {
  readonly hashes: readonly Buffer[];
  readonly table: PageTable;
}

function wantedPages(draft: DraftPages, blocks: Float64Array): WantedPages {
  const hashes: Buffer[] = [];
  const table = new PageTable(PAGE_HASH_BYTES);
  draft.hashes.forEach((digest, page) => {
    if ((blocks[draft.unique.find(digest)?.page ?? page] ?? -1) >= 0) return;
    if (table.find(digest) !== undefined) return;
    table.add(digest, 0, { pack: 0, page });
    hashes.push(digest);
  });
  return { hashes, table };
}

/** Pages that need not be stored any more: those of packs, where they are not too few of a segment, and those met before. */
class KnownPages {
  readonly own = new PageTable(STRONG_HASH_BYTES);
  private readonly stored: PackPages;
  /** Positions of packs, as `stored` has them: where several have a page, a base is to count. */
  private readonly order: readonly number[];
  /** Wanted pages by pack and segment. */
  private readonly use = new Map<string, number>();
  private readonly found = Buffer.alloc(PAGE_BYTES);

  constructor(
    private readonly readers: readonly (PackReader | undefined)[],
    private readonly bases: readonly number[],
    wanted: WantedPages,
  ) {
    this.order = [...new Set([...bases, ...readers.keys()])];
    this.stored = new PackPages(this.order.map((pack) => readers[pack]?.index.hashes ?? Buffer.alloc(0)));
    for (const hash of wanted.hashes) {
      const place = this.place(hash);
      if (place === undefined) continue;
      const segment = segmentOf(place);
      this.use.set(segment, (this.use.get(segment) ?? 0) + 1);
    }
  }

  /** Where a pack has this page: compared byte by byte, since its hash in the pack is short. */
  find(page: Buffer, digest: Buffer): { pack: number; page: number } | undefined {
    const place = this.place(digest);
    const reader = place && this.readers[place.pack];
    if (place === undefined || reader === undefined || !this.isWorthIt(place, reader)) return undefined;
    try {
      reader.read(place.page, this.found, 0);
    } catch (error) {
      if (error instanceof DamagedFile) return undefined;
      throw error;
    }
    return this.found.equals(page) ? place : undefined;
  }

  private place(digest: Buffer): PagePlace | undefined {
    const place = this.stored.find(digest);
    const pack = place && this.order[place.pack];
    return pack === undefined ? undefined : { pack, page: place?.page ?? 0 };
  }

  private isWorthIt({ pack, page }: PagePlace, reader: PackReader): boolean {
    if (this.bases.includes(pack)) return true;
    const pages = segmentPages(reader.pages, Math.floor(page / SEGMENT_PAGES));
    return (this.use.get(segmentOf({ pack, page })) ?? 0) >= pages * MIN_SEGMENT_SHARE;
  }
}

function segmentOf({ pack, page }: PagePlace): string {
  return `${pack} ${Math.floor(page / SEGMENT_PAGES)}`;
}

/** Positions of the packs that most pages are in common with; those that build on others themselves cannot be built on. */
function pickBases(readers: readonly (PackReader | undefined)[], wanted: WantedPages): number[] {
  const least = wanted.hashes.length * MIN_COMMON_SHARE;
  return readers
    .flatMap((reader, pack) =>
      reader?.bases.length === 0 ? [{ pack, count: inCommon(reader, wanted) }] : [],
    )
    .filter(({ count }) => count > 0 && count >= least)
    .sort((a, b) => b.count - a.count)
    .slice(0, MAX_BASES)
    .map(({ pack }) => pack);
}

/** How many of its pages are wanted. */
function inCommon({ index: { hashes } }: PackReader, { table }: WantedPages): number {
  let count = 0;
  for (let at = 0; at < hashes.length; at += PAGE_HASH_BYTES) {
    if (table.find(hashes, at) !== undefined) count += 1;
  }
  return count;
}

/** Collects new pages into segments. */
class PackPlanner {
  pages = 0;
  private readonly similar: SimilarPages;
  /** Of the pages of the bases, in the order of their numbers in `similar`. */
  private readonly places: { base: number; page: number }[] = [];
  private readonly segments: { sources: PageSource[]; prefix: PrefixRun[] }[] = [];
  private readonly hashes: Buffer[] = [];
  private sources: { path: string; numbers: number[] }[] = [];
  private best = new Set<number>();
  private second = new Set<number>();

  constructor(bases: readonly PackReader[]) {
    this.similar = new SimilarPages(bases.reduce((sum, base) => sum + base.pages, 0));
    const page = Buffer.alloc(PAGE_BYTES);
    bases.forEach((reader, base) => {
      try {
        for (let position = 0; position < reader.pages; position += 1) {
          reader.read(position, page, 0);
          this.similar.add(page, this.places.length);
          this.places.push({ base, page: position });
        }
      } catch (error) {
        // What cannot be read is not built on.
        if (!(error instanceof DamagedFile)) throw error;
      }
    });
  }

  /** Adds a page; returns its position in the pack. */
  append(path: string, number: number, page: Buffer, digest: Buffer): number {
    let source = this.sources.at(-1);
    if (source?.path !== path) {
      source = { path, numbers: [] };
      this.sources.push(source);
    }
    source.numbers.push(number);
    this.hashes.push(digest);
    if (this.places.length > 0) {
      const [best, second] = this.similar.candidates(page);
      if (best !== undefined) this.best.add(best);
      if (second !== undefined) this.second.add(second);
    }
    this.pages += 1;
    if (this.pages % SEGMENT_PAGES === 0) this.flush();
    return this.pages - 1;
  }

  finish(bases: readonly PackFile[]): PlannedPack {
    this.flush();
    const hashes = Buffer.alloc(this.pages * PAGE_HASH_BYTES);
    this.hashes.forEach((digest, page) => digest.copy(hashes, page * PAGE_HASH_BYTES, 0, PAGE_HASH_BYTES));
    return {
      segments: this.segments.map((segment, number) => {
        const from = number * SEGMENT_PAGES * PAGE_HASH_BYTES;
        // A copy, for a part of a buffer goes to another thread with the whole buffer.
        const its = Uint8Array.prototype.slice.call(hashes, from, from + SEGMENT_PAGES * PAGE_HASH_BYTES);
        return { ...segment, bases, hashes: its };
      }),
      bases: bases.map((base) => base.id),
      pages: this.pages,
      hashes,
    };
  }

  private flush(): void {
    if (this.sources.length === 0) return;
    const sources = this.sources.map(({ path, numbers }) => ({
      kind: 'file' as const,
      path,
      numbers: Uint32Array.from(numbers),
    }));
    this.segments.push({ sources, prefix: this.prefix() });
    this.sources = [];
    this.best = new Set();
    this.second = new Set();
  }

  /** The pages that resemble those of this segment; the most alike count where there are too many. */
  private prefix(): PrefixRun[] {
    return makePrefix([...this.best, ...this.second].flatMap((number) => this.places[number] ?? []));
  }
}
