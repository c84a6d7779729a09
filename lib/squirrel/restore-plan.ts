/**
 * Plans how a µVM is written out: which segments are to be decoded, where their pages go, and which of them are needed
 * first, because others have them as prefix. Synchronous: for worker threads only.
 */
import { DamagedFile } from './errors';
import { readMap, type StoredUvm } from './live-pages';
import { SEGMENT_PAGES, segmentPages, type PackFile } from './pack-format';
import { PackSet, type PackReader } from './pack-reader';
import { cutExtents, DIGEST_BYTES, GROUP_PAGES, IMAGE, type Extent } from './page-map';

/** Numbers per write: file of the µVM, first page there, first page in the segment, number of pages. */
export const WRITE_WORDS = 4;
/** Numbers per feed: position of another segment in the plan, first page in its prefix, first page here, number of pages. */
export const FEED_WORDS = 4;

/** A segment to be decoded. */
export interface PlannedSegment {
  readonly pack: PackFile;
  readonly number: number;
  readonly offset: number;
  readonly storedBytes: number;
  readonly codec: number;
  readonly digest: Uint8Array;
  readonly pages: number;
  /** Of its prefix, which segments before it in the plan feed; 0 for none. */
  readonly prefixPages: number;
  /** FEED_WORDS per run of pages that are in the prefix of another segment. */
  readonly feeds: Uint32Array;
  /** WRITE_WORDS per run of pages. */
  readonly writes: Uint32Array;
}

/** Numbers per copy: first page in the file, number of pages, first block of the image. */
export const COPY_WORDS = 3;

/** Pages from the image to be copied. */
export interface PlannedImagePages {
  readonly file: number;
  /** `copies` has COPY_WORDS per run of pages. */
  readonly groups: readonly { readonly copies: Uint32Array; readonly digest: Uint8Array }[];
}

export interface RestorePlan {
  readonly segments: readonly PlannedSegment[];
  readonly images: readonly PlannedImagePages[];
}

/** Prefixes, which are in memory until the µVM is written out, may take 2 GiB, and so may the segments that they are from. */
const MAX_KEPT_PAGES = 1 << 19;
/** Groups of pages from the image that are copied by one thread: 4 MiB. */
const GROUPS_AT_ONCE = 4;

interface Needed {
  readonly reader: PackReader;
  readonly pack: PackFile;
  readonly number: number;
  readonly writes: number[];
  readonly feeds: { to: Needed; prefixPage: number; page: number; pages: number }[];
  prefixPages: number;
}

/**
 * Makes the plan for a µVM.
 * @throws DamagedFile when a map or an index is not what was stored, or no host should spend what it asks for
 */
export function planRestore(uvm: StoredUvm): RestorePlan {
  const set = new PackSet();
  try {
    const needed = new NeededSegments(set);
    const images: PlannedImagePages[] = [];
    uvm.maps.forEach((map, file) => {
      const { extents, imageDigests } = readMap(map, uvm.packs.length);
      for (const extent of extents) {
        const pack = extent.pack === IMAGE ? undefined : uvm.packs[extent.pack];
        if (pack !== undefined) needed.addExtent(pack, extent, file, map.path);
      }
      const fromImage = extents.filter((extent) => extent.pack === IMAGE);
      const groups = cutExtents(fromImage, GROUP_PAGES).map((group, number) => ({
        copies: Uint32Array.from(
          group.flatMap(({ filePage, pages, packPage }) => [filePage, pages, packPage]),
        ),
        digest: Uint8Array.prototype.slice.call(
          imageDigests,
          number * DIGEST_BYTES,
          (number + 1) * DIGEST_BYTES,
        ),
      }));
      for (let first = 0; first < groups.length; first += GROUPS_AT_ONCE) {
        images.push({ file, groups: groups.slice(first, first + GROUPS_AT_ONCE) });
      }
    });
    return { segments: needed.finish(), images };
  } finally {
    set.close();
  }
}

class NeededSegments {
  /** By pack, then by number: asked for each run of pages. */
  private readonly byPack = new Map<string, Map<number, Needed>>();
  private readonly all: Needed[] = [];

  constructor(private readonly set: PackSet) {}

  addExtent(pack: PackFile, { packPage, pages, filePage }: Extent, file: number, mapPath: string): void {
    const reader = this.set.reader(pack);
    if (packPage + pages > reader.pages)
      throw new DamagedFile(mapPath, `refers beyond the end of ${pack.path}`);
    for (let page = packPage; page < packPage + pages;) {
      const number = Math.floor(page / SEGMENT_PAGES);
      const count = Math.min(packPage + pages, (number + 1) * SEGMENT_PAGES) - page;
      const to = filePage + page - packPage;
      this.get(reader, pack, number).writes.push(file, to, page % SEGMENT_PAGES, count);
      page += count;
    }
  }

  finish(): PlannedSegment[] {
    // A segment with a prefix is nobody's prefix, so what this adds has none itself.
    for (const one of [...this.all]) this.addPrefix(one);
    const { all } = this;
    const ordered = [
      ...all.filter(({ prefixPages }) => prefixPages === 0),
      ...all.filter(({ prefixPages }) => prefixPages > 0),
    ];
    const position = new Map(ordered.map((one, at) => [one, at]));
    const keptPages = all.reduce(
      (sum, { reader, number, feeds }) => sum + (feeds.length > 0 ? segmentPages(reader.pages, number) : 0),
      0,
    );
    const prefixPages = all.reduce((sum, one) => sum + one.prefixPages, 0);
    const [some] = all;
    if (some !== undefined && Math.max(keptPages, prefixPages) > MAX_KEPT_PAGES) {
      throw new DamagedFile(some.pack.path, `its segments need ${keptPages} pages of others at once`);
    }
    return ordered.map(({ reader, pack, number, feeds, writes, prefixPages }) => {
      const segment = reader.index.segments[number];
      return {
        pack,
        number,
        offset: reader.offsets[number] ?? 0,
        storedBytes: segment?.storedBytes ?? 0,
        codec: segment?.codec ?? 0,
        digest: Uint8Array.from(segment?.digest ?? []),
        pages: segmentPages(reader.pages, number),
        prefixPages,
        feeds: Uint32Array.from(
          feeds.flatMap(({ to, prefixPage, page, pages }) => [
            position.get(to) ?? 0,
            prefixPage,
            page,
            pages,
          ]),
        ),
        writes: Uint32Array.from(writes),
      };
    });
  }

  /** The segments that the prefix is from, now needed, too. */
  private addPrefix(one: Needed): void {
    const { reader, number } = one;
    for (const { base, page: first, pages } of reader.index.segments[number]?.prefix ?? []) {
      const there = reader.base(base, first + pages);
      const pack = reader.bases[base];
      if (pack === undefined) continue;
      for (let page = first; page < first + pages;) {
        const at = Math.floor(page / SEGMENT_PAGES);
        const count = Math.min(first + pages, (at + 1) * SEGMENT_PAGES) - page;
        const from = this.get(there, pack, at);
        from.feeds.push({ to: one, prefixPage: one.prefixPages, page: page % SEGMENT_PAGES, pages: count });
        one.prefixPages += count;
        page += count;
      }
    }
  }

  private get(reader: PackReader, pack: PackFile, number: number): Needed {
    let ofPack = this.byPack.get(pack.id);
    if (ofPack === undefined) {
      ofPack = new Map();
      this.byPack.set(pack.id, ofPack);
    }
    let needed = ofPack.get(number);
    if (needed === undefined) {
      needed = { reader, pack, number, writes: [], feeds: [], prefixPages: 0 };
      ofPack.set(number, needed);
      this.all.push(needed);
    }
    return needed;
  }
}
