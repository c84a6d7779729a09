/**
 * Reads packs. The index is checked against the pack's name, each segment against the index, and only then decoded.
 * Synchronous: for worker threads only.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { hash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { DamagedFile } from './errors';
import { readAt } from './file-pages';
import {
  FOOTER_BYTES,
  FOOTER_MAGIC,
  MAX_INDEX_BYTES,
  PACK_MAGIC,
  SEGMENT_PAGES,
  maxStoredBytes,
  offsetInSegment,
  pageHash,
  pagesOf,
  parseIndex,
  segmentPages,
  type PackFile,
  type PackIndex,
  type PrefixRun,
  type Segment,
} from './pack-format';
import { PAGE_BYTES, PAGE_HASH_BYTES } from './page-map';
import { CodecError, decodeContent } from './codec';

/** Decoded segments kept while reading: pages that are shared or referred to lie scattered. 192 MiB. */
const SEGMENTS_KEPT = 24;

/** Packs that are open, each once, and what of them is decoded. */
export class PackSet {
  private readonly open = new Map<string, PackReader>();
  private readonly decoded = new Map<string, Buffer>();

  /** @throws DamagedFile */
  reader(file: PackFile): PackReader {
    let reader = this.open.get(file.id);
    if (reader === undefined) {
      reader = new PackReader(file, this);
      this.open.set(file.id, reader);
    }
    return reader;
  }

  /** A decoded segment, from `decode` if it is not kept from before. */
  segment(name: string, decode: () => Buffer): Buffer {
    const content = this.decoded.get(name) ?? decode();
    // The one that was used last is the last in order.
    this.decoded.delete(name);
    this.decoded.set(name, content);
    for (const [oldest] of this.decoded) {
      if (this.decoded.size <= SEGMENTS_KEPT) break;
      this.decoded.delete(oldest);
    }
    return content;
  }

  close(): void {
    for (const reader of this.open.values()) reader.close();
    this.open.clear();
    this.decoded.clear();
  }
}

/**
 * Reads a segment into the whole of `into`.
 * @param place where its stored bytes are in the file
 * @param stored memory for these
 * @throws DamagedFile when they are not those the index promised
 */
export function decodeSegment(
  fd: number,
  path: string,
  place: { readonly number: number; readonly offset: number } & Pick<
    Segment,
    'storedBytes' | 'codec' | 'digest'
  >,
  prefix: Buffer | undefined,
  into: Buffer,
  stored: Buffer = Buffer.allocUnsafeSlow(place.storedBytes),
): void {
  if (readAt(fd, stored, place.offset) < stored.length) throw new DamagedFile(path, 'ends too early');
  if (!hash('sha256', stored, 'buffer').equals(place.digest)) {
    throw new DamagedFile(path, `segment ${place.number} is not what was stored`);
  }
  try {
    decodeContent(place.codec, stored, into, prefix);
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    throw new DamagedFile(path, `segment ${place.number} cannot be decoded: ${error.message}`, {
      cause: error,
    });
  }
}

/** The pages of prefix runs, one after the other; undefined when there are none. Throws DamagedFile. */
export function gatherPrefix(
  runs: readonly PrefixRun[],
  readerOf: (base: number, neededPages: number) => PackReader,
): Buffer | undefined {
  if (runs.length === 0) return undefined;
  const into = Buffer.allocUnsafeSlow(pagesOf(runs) * PAGE_BYTES);
  let at = 0;
  for (const { base, page, pages } of runs) {
    const reader = readerOf(base, page + pages);
    for (let next = page; next < page + pages; next += 1) {
      const from = offsetInSegment(next);
      at += reader.segment(Math.floor(next / SEGMENT_PAGES)).copy(into, at, from, from + PAGE_BYTES);
    }
  }
  return into;
}

/** One pack. */
export class PackReader {
  readonly path: string;
  readonly index: PackIndex;
  /** The packs that prefixes are from. */
  readonly bases: readonly PackFile[];
  /** Where each segment starts in the file. */
  readonly offsets: readonly number[];
  private readonly fd: number;

  /**
   * @param set where base packs are opened
   * @throws DamagedFile when the file is not there or its index is not the one that its name promises
   */
  constructor(
    private readonly file: PackFile,
    private readonly set: PackSet,
  ) {
    this.path = file.path;
    try {
      this.fd = openSync(file.path, 'r');
    } catch (error) {
      throw new DamagedFile(file.path, 'cannot be opened', { cause: error });
    }
    try {
      const { index, at } = this.readIndex();
      this.index = index;
      let offset = PACK_MAGIC.length;
      this.offsets = index.segments.map(({ storedBytes }) => {
        const start = offset;
        offset += storedBytes;
        return start;
      });
      if (offset !== at) throw new DamagedFile(file.path, 'length is wrong');
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
    this.bases = this.index.bases.map((id) => ({ id, path: join(dirname(file.path), `${id}.pack`) }));
  }

  get pages(): number {
    return this.index.pages;
  }

  /** Stored bytes of the segment that a page is in, divided among the segment's pages. */
  storedBytes(position: number): number {
    const number = Math.floor(position / SEGMENT_PAGES);
    return (this.index.segments[number]?.storedBytes ?? 0) / segmentPages(this.pages, number);
  }

  /** Writes a page to `into` at `at`, and checks it. Throws DamagedFile. */
  read(position: number, into: Buffer, at: number): void {
    if (position >= this.pages) throw new DamagedFile(this.path, `has no page ${position}`);
    const from = offsetInSegment(position);
    this.segment(Math.floor(position / SEGMENT_PAGES)).copy(into, at, from, from + PAGE_BYTES);
    const hashAt = position * PAGE_HASH_BYTES;
    const found = pageHash(into.subarray(at, at + PAGE_BYTES));
    if (found.compare(this.index.hashes, hashAt, hashAt + PAGE_HASH_BYTES) !== 0) {
      throw new DamagedFile(this.path, `page ${position} does not have its hash`);
    }
  }

  /** The content of a segment. Throws DamagedFile. */
  segment(number: number): Buffer {
    return this.set.segment(`${this.file.id} ${number}`, () => {
      const segment = this.index.segments[number];
      if (segment === undefined) throw new DamagedFile(this.path, `has no segment ${number}`);
      const into = Buffer.allocUnsafeSlow(segmentPages(this.pages, number) * PAGE_BYTES);
      const place = { ...segment, number, offset: this.offsets[number] ?? 0 };
      const prefix = gatherPrefix(segment.prefix, (base, neededPages) => this.base(base, neededPages));
      decodeSegment(this.fd, this.path, place, prefix, into);
      return into;
    });
  }

  /**
   * The reader of a base pack, known to have this many pages.
   * @throws DamagedFile
   */
  base(position: number, neededPages: number): PackReader {
    const file = this.bases[position];
    if (file === undefined) throw new DamagedFile(this.path, 'refers to a pack that it does not name');
    const reader = this.set.reader(file);
    if (reader.bases.length > 0)
      throw new DamagedFile(this.path, `cannot be based on ${file.id}, which has bases`);
    if (reader.pages < neededPages) throw new DamagedFile(this.path, `refers beyond the end of ${file.id}`);
    return reader;
  }

  close(): void {
    closeSync(this.fd);
  }

  private readIndex(): { index: PackIndex; at: number } {
    const size = fstatSync(this.fd).size;
    if (size < PACK_MAGIC.length + FOOTER_BYTES) throw new DamagedFile(this.path, 'too short');
    const magic = this.readBytes(PACK_MAGIC.length, 0);
    if (!magic.equals(PACK_MAGIC)) throw new DamagedFile(this.path, 'header is wrong');
    const footer = this.readBytes(FOOTER_BYTES, size - FOOTER_BYTES);
    if (!footer.subarray(12).equals(FOOTER_MAGIC)) {
      throw new DamagedFile(this.path, 'ends before its footer does');
    }
    const storedBytes = footer.readUInt32LE(0);
    const contentBytes = footer.readUInt32LE(4);
    const at = size - FOOTER_BYTES - storedBytes;
    const impossible = contentBytes > MAX_INDEX_BYTES || storedBytes > maxStoredBytes(contentBytes);
    if (at < PACK_MAGIC.length || impossible) throw new DamagedFile(this.path, 'footer is wrong');
    const stored = this.readBytes(storedBytes, at);
    if (hash('sha256', stored) !== this.file.id) {
      throw new DamagedFile(this.path, 'index is not the one that was stored');
    }
    const content = Buffer.allocUnsafeSlow(contentBytes);
    try {
      decodeContent(footer.readUInt32LE(8), stored, content);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      throw new DamagedFile(this.path, `index cannot be decoded: ${error.message}`, { cause: error });
    }
    return { index: parseIndex(content, this.path), at };
  }

  private readBytes(bytes: number, position: number): Buffer {
    const into = Buffer.allocUnsafeSlow(bytes);
    if (readAt(this.fd, into, position) < bytes) throw new DamagedFile(this.path, 'ends too early');
    return into;
  }
}

/**
 * Reads every page of a pack, which checks each against its hash.
 * @returns how many there are
 * @throws DamagedFile
 */
export function readPages(reader: PackReader): number {
  const page = Buffer.alloc(PAGE_BYTES);
  for (let position = 0; position < reader.pages; position += 1) reader.read(position, page, 0);
  return reader.pages;
}
