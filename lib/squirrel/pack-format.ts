/**
 * Packs: pages in compressed segments of up to 8 MiB, with an index that has the digest of every segment and a hash of
 * every page. Layout, little endian:
 *
 *   magic (8 bytes)
 *   segments: 2048 pages each (the last may have fewer), compressed
 *   index: compressed: u32 segments, u32 pages, u32 base packs, u32 prefix runs; per base pack its name (32 bytes);
 *     per segment u32 stored bytes, u32 codec, u32 prefix runs, SHA-256 of the stored bytes (32 bytes); per prefix run u32 position
 *     among the base packs, u32 first page there, u32 pages; per page 8 bytes of hash
 *   footer: u32 stored bytes of the index, u32 bytes of its content, u32 codec of the index, magic (8 bytes)
 *
 * A pack is named by the SHA-256 of its index as stored. Page hash: the first 8 bytes of the page's SHA-256; it finds a
 * page, the segment's digest vouches for it. A segment is compressed with the pages of its prefix runs, one after the
 * other, as its prefix. A pack that is a base has no bases itself, so reading a page takes two packs at most.
 */
import { hash } from 'node:crypto';
import { DamagedFile } from './errors';
import { PAGE_BYTES, PAGE_HASH_BYTES } from './page-map';

export const SEGMENT_PAGES = 2048;
/** Pages that a segment's prefix may have. */
export const MAX_PREFIX_PAGES = 4096;
/** Segments of base packs that a prefix may have pages of: what has to be decoded, and kept, before it can be used. */
export const MAX_PREFIX_SEGMENTS = 128;
/** Reaches over a segment and its prefix. */
export const WINDOW_LOG = 25;
export const PACK_MAGIC = Buffer.from('PBPACK\0\x04', 'latin1');
export const FOOTER_MAGIC = Buffer.from('PBPKEND\x04', 'latin1');
export const FOOTER_BYTES = 12 + FOOTER_MAGIC.length;
export const DIGEST_BYTES = 32;
export const MAX_BASES = 2;
/** 16 GiB of pages: more than one µVM has. */
const MAX_PAGES = 1 << 22;
/** The most bytes that the content of an index has. */
export const MAX_INDEX_BYTES = 64 * 1024 ** 2;
const HEAD_BYTES = 16;
const SEGMENT_BYTES = 12 + DIGEST_BYTES;
const RUN_BYTES = 12;

/** A pack on disk; its base packs are its neighbours there. */
export interface PackFile {
  readonly id: string;
  readonly path: string;
}

/** Pages that follow each other: the first, and how many. */
export interface PageRun {
  readonly page: number;
  readonly pages: number;
}

/** Pages of a base pack that follow each other there and in a prefix. */
export interface PrefixRun extends PageRun {
  /** Position among the base packs. */
  readonly base: number;
}

/** One segment, as the index tells. */
export interface Segment {
  readonly storedBytes: number;
  /** LZ4 or ZSTD; anything, until it is decoded. */
  readonly codec: number;
  /** SHA-256 of the stored bytes. */
  readonly digest: Uint8Array;
  readonly prefix: readonly PrefixRun[];
}

/** What an index says. */
export interface PackIndex {
  readonly pages: number;
  /** Names of the base packs. */
  readonly bases: readonly string[];
  readonly segments: readonly Segment[];
  /** PAGE_HASH_BYTES per page. */
  readonly hashes: Buffer;
}

/** The hash that finds a page: the first bytes of its SHA-256. */
export function pageHash(page: Uint8Array, bytes: number = PAGE_HASH_BYTES): Buffer {
  return hash('sha256', page, 'buffer').subarray(0, bytes);
}

/** Pages of a segment: all have SEGMENT_PAGES but the last. */
export function segmentPages(packPages: number, segment: number): number {
  return Math.min(packPages - segment * SEGMENT_PAGES, SEGMENT_PAGES);
}

/** The most that so many bytes become when nothing makes them smaller, with any codec. */
export function maxStoredBytes(contentBytes: number): number {
  return contentBytes + Math.ceil(contentBytes / 128) + 1024;
}

/** Sum of the pages of runs. */
export function pagesOf(runs: readonly { readonly pages: number }[]): number {
  return runs.reduce((sum, run) => sum + run.pages, 0);
}

/** The content of an index. */
export function serialiseIndex({ pages, bases, segments, hashes }: PackIndex): Buffer {
  const runs = segments.flatMap((segment) => segment.prefix);
  const out = Buffer.alloc(
    HEAD_BYTES +
      bases.length * DIGEST_BYTES +
      segments.length * SEGMENT_BYTES +
      runs.length * RUN_BYTES +
      pages * PAGE_HASH_BYTES,
  );
  let at = 0;
  for (const value of [segments.length, pages, bases.length, runs.length]) at = out.writeUInt32LE(value, at);
  for (const id of bases) at += out.write(id, at, 'hex');
  for (const { storedBytes, codec, prefix, digest } of segments) {
    at = out.writeUInt32LE(storedBytes, at);
    at = out.writeUInt32LE(codec, at);
    at = out.writeUInt32LE(prefix.length, at);
    out.set(digest, at);
    at += DIGEST_BYTES;
  }
  for (const run of runs)
    for (const value of [run.base, run.page, run.pages]) at = out.writeUInt32LE(value, at);
  hashes.copy(out, at, 0, pages * PAGE_HASH_BYTES);
  return out;
}

/**
 * Reads the content of an index; every count in it is checked before it is believed.
 * @throws DamagedFile
 */
export function parseIndex(content: Buffer, path: string): PackIndex {
  const wrong = (problem: string): DamagedFile => new DamagedFile(path, `its index ${problem}`);
  if (content.length < HEAD_BYTES) throw wrong('is too short');
  const [segmentCount, pages, baseCount, runCount] = [0, 4, 8, 12].map((at) => content.readUInt32LE(at)) as [
    number,
    number,
    number,
    number,
  ];
  const segmentsAt = HEAD_BYTES + baseCount * DIGEST_BYTES;
  const runsAt = segmentsAt + segmentCount * SEGMENT_BYTES;
  const hashesAt = runsAt + runCount * RUN_BYTES;
  if (
    pages > MAX_PAGES ||
    baseCount > MAX_BASES ||
    segmentCount !== Math.ceil(pages / SEGMENT_PAGES) ||
    content.length !== hashesAt + pages * PAGE_HASH_BYTES
  ) {
    throw wrong('has the wrong length');
  }
  let runAt = runsAt;
  // Prefixes are read again whenever they are asked for: of a large cache they would take more memory than anything else.
  const runsBetween = (from: number, to: number): PrefixRun[] => {
    const runs: PrefixRun[] = [];
    for (let at = from; at < to; at += RUN_BYTES) {
      runs.push({
        base: content.readUInt32LE(at),
        page: content.readUInt32LE(at + 4),
        pages: content.readUInt32LE(at + 8),
      });
    }
    return runs;
  };
  const segments = Array.from({ length: segmentCount }, (_, number): Segment => {
    const at = segmentsAt + number * SEGMENT_BYTES;
    const runs = content.readUInt32LE(at + 8);
    const end = runAt + runs * RUN_BYTES;
    if (end > hashesAt || runs > MAX_PREFIX_PAGES) throw wrong(`has not the prefix of segment ${number}`);
    const from = runAt;
    runAt = end;
    if (!isPossible(runsBetween(from, end), baseCount))
      throw wrong(`has an impossible prefix for segment ${number}`);
    const storedBytes = content.readUInt32LE(at);
    if (storedBytes > maxStoredBytes(segmentPages(pages, number) * PAGE_BYTES)) {
      throw wrong(`has segment ${number} larger than what is in it`);
    }
    return {
      storedBytes,
      codec: content.readUInt32LE(at + 4),
      digest: content.subarray(at + 12, at + SEGMENT_BYTES),
      get prefix() {
        return runsBetween(from, end);
      },
    };
  });
  if (runAt !== hashesAt) throw wrong('has prefixes of no segment');
  return {
    pages,
    bases: Array.from({ length: baseCount }, (_, base) =>
      content.toString('hex', HEAD_BYTES + base * DIGEST_BYTES, HEAD_BYTES + (base + 1) * DIGEST_BYTES),
    ),
    segments,
    hashes: content.subarray(hashesAt),
  };
}

/** A prefix is in the order of its packs and their pages, which are then decoded once each, and within bounds. */
function isPossible(prefix: readonly PrefixRun[], bases: number): boolean {
  let last = { base: 0, end: 0 };
  const segments = new Set<number>();
  for (const { base, page, pages } of prefix) {
    const inOrder = base === last.base ? page >= last.end : base > last.base;
    if (base >= bases || !inOrder || pages === 0 || pages > MAX_PREFIX_PAGES) return false;
    last = { base, end: page + pages };
    for (let at = Math.floor(page / SEGMENT_PAGES); at * SEGMENT_PAGES < last.end; at += 1) {
      segments.add(base * MAX_PAGES + at);
    }
  }
  return pagesOf(prefix) <= MAX_PREFIX_PAGES && segments.size <= MAX_PREFIX_SEGMENTS;
}

/**
 * The prefix that has these pages of base packs; those that come first count where there are too many.
 * @param pages position of the base pack, page there
 */
export function makePrefix(pages: Iterable<{ readonly base: number; readonly page: number }>): PrefixRun[] {
  const chosen: { base: number; page: number }[] = [];
  const seen = new Set<string>();
  const segments = new Set<string>();
  for (const { base, page } of pages) {
    const segment = `${base} ${Math.floor(page / SEGMENT_PAGES)}`;
    if (chosen.length === MAX_PREFIX_PAGES) break;
    if (seen.has(`${base} ${page}`)) continue;
    if (!segments.has(segment) && segments.size === MAX_PREFIX_SEGMENTS) continue;
    segments.add(segment);
    seen.add(`${base} ${page}`);
    chosen.push({ base, page });
  }
  chosen.sort((a, b) => a.base - b.base || a.page - b.page);
  const bases = [...new Set(chosen.map(({ base }) => base))];
  return bases.flatMap((base) =>
    toRuns(chosen.flatMap((one) => (one.base === base ? [one.page] : []))).map((run) => ({ base, ...run })),
  );
}

/** Page numbers, ascending, as runs. */
export function toRuns(pages: Iterable<number>): PageRun[] {
  return joinRuns(Array.from(pages, (page) => ({ page, pages: 1 })));
}

/** Makes one of runs that follow each other. */
export function joinRuns(runs: readonly PageRun[]): PageRun[] {
  const joined: { page: number; pages: number }[] = [];
  for (const { page, pages } of runs) {
    const last = joined.at(-1);
    if (last !== undefined && last.page + last.pages === page) last.pages += pages;
    else joined.push({ page, pages });
  }
  return joined;
}

/** A page's place within its segment, in bytes. */
export function offsetInSegment(page: number): number {
  return (page % SEGMENT_PAGES) * PAGE_BYTES;
}
