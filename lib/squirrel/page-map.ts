/**
 * Page maps: which pages of which packs, and which blocks of the guest's image, a file is made of. Zero pages have no entry.
 *
 * Layout, little endian: magic (8 bytes), u32 bytes of the content, u32 codec, then the content, compressed: u32 number of
 * extents, u32 number of pages from the image; per extent four u32: first page in the file, number of pages, position of
 * the pack in the manifest's list (or 0xffffffff: the image), first page in that pack or image; then a SHA-256 per 256
 * pages from the image, the last one of what is left. Everything is in file order.
 */
import { hash } from 'node:crypto';
import { DamagedFile } from './errors';
import { CodecError, decodeContent, encodeContent } from './codec';

export const PAGE_BYTES = 4096;
/** Bytes of a page's hash in packs. */
export const PAGE_HASH_BYTES = 8;
/** Stands for the image where a pack's position is expected. */
export const IMAGE = 0xffffffff;
/** Pages from the image that one digest vouches for. */
export const GROUP_PAGES = 256;
export const DIGEST_BYTES = 32;
const MAGIC = Buffer.from('PBMAP\0\0\x04', 'latin1');
const HEAD_BYTES = MAGIC.length + 8;
const COUNTS_BYTES = 8;
const EXTENT_BYTES = 16;
/** More than a map of 16 GiB in the worst order has. */
const MAX_CONTENT_BYTES = 80 * 1024 ** 2;
const LEVEL = 19;
const WINDOW_LOG = 24;

/** A run of pages that are neighbours in the file as well as in the pack or image. */
export interface Extent {
  readonly filePage: number;
  readonly pages: number;
  /** Position in the manifest's `packs`, or IMAGE. */
  readonly pack: number;
  readonly packPage: number;
}

/** What a file is made of. */
export interface PageMap {
  readonly extents: readonly Extent[];
  /** DIGEST_BYTES for each GROUP_PAGES pages from the image. */
  readonly imageDigests: Uint8Array;
}

/** Collects pages in file order into extents. */
export class PageMapBuilder {
  private readonly extents: { filePage: number; pages: number; pack: number; packPage: number }[] = [];
  imagePages = 0;

  add(filePage: number, pack: number, packPage: number): void {
    if (pack === IMAGE) this.imagePages += 1;
    const last = this.extents.at(-1);
    if (
      last?.pack === pack &&
      last.filePage + last.pages === filePage &&
      last.packPage + last.pages === packPage
    ) {
      last.pages += 1;
    } else {
      this.extents.push({ filePage, pages: 1, pack, packPage });
    }
  }

  /**
   * The map as the bytes of its file.
   * @param packOrder the position of a pack in the manifest
   */
  serialise(packOrder: ReadonlyMap<number, number>, imageDigests: Uint8Array): Buffer {
    const content = Buffer.alloc(COUNTS_BYTES + this.extents.length * EXTENT_BYTES + imageDigests.length);
    let at = content.writeUInt32LE(this.extents.length, 0);
    at = content.writeUInt32LE(this.imagePages, at);
    for (const { filePage, pages, pack, packPage } of this.extents) {
      for (const value of [filePage, pages, packOrder.get(pack) ?? pack, packPage]) {
        at = content.writeUInt32LE(value, at);
      }
    }
    content.set(imageDigests, at);
    const { codec, stored } = encodeContent(content, { level: LEVEL, windowLog: WINDOW_LOG });
    const head = Buffer.alloc(8);
    head.writeUInt32LE(content.length, 0);
    head.writeUInt32LE(codec, 4);
    return Buffer.concat([MAGIC, head, stored]);
  }

  /** Positions of the packs in use, in order of first use. */
  packsInUse(): number[] {
    return [...new Set(this.extents.map((extent) => extent.pack))].filter((pack) => pack !== IMAGE);
  }

  /** Its pages from the image, in file order. */
  imageExtents(): Extent[] {
    return this.extents.filter((extent) => extent.pack === IMAGE);
  }
}

/**
 * Reads a page map. Decompresses: for worker threads only.
 * @param digest what the manifest says its SHA-256 is
 * @param sizeBytes of the file that it describes; no extent may lie outside of it
 * @throws DamagedFile
 */
export function parsePageMap(
  file: Buffer,
  path: string,
  digest: string,
  sizeBytes: number,
  packCount: number,
): PageMap {
  if (hash('sha256', file) !== digest) throw new DamagedFile(path, 'digest differs from the manifest');
  if (file.length < HEAD_BYTES || !file.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new DamagedFile(path, 'not a page map');
  }
  const filePages = Math.ceil(sizeBytes / PAGE_BYTES);
  const content = contentOf(file, path, filePages);
  const count = content.readUInt32LE(0);
  const imagePages = content.readUInt32LE(4);
  const digestsAt = COUNTS_BYTES + count * EXTENT_BYTES;
  if (content.length !== digestsAt + Math.ceil(imagePages / GROUP_PAGES) * DIGEST_BYTES) {
    throw new DamagedFile(path, 'length is wrong');
  }
  const extents: Extent[] = [];
  let next = 0;
  let fromImage = 0;
  for (let at = COUNTS_BYTES; at < digestsAt; at += EXTENT_BYTES) {
    const extent = {
      filePage: content.readUInt32LE(at),
      pages: content.readUInt32LE(at + 4),
      pack: content.readUInt32LE(at + 8),
      packPage: content.readUInt32LE(at + 12),
    };
    const end = extent.filePage + extent.pages;
    const known = extent.pack < packCount || extent.pack === IMAGE;
    if (extent.filePage < next || extent.pages === 0 || end > filePages || !known) {
      throw new DamagedFile(path, `extent of page ${extent.filePage} is out of place`);
    }
    if (extent.pack === IMAGE) fromImage += extent.pages;
    next = end;
    extents.push(extent);
  }
  if (fromImage !== imagePages)
    throw new DamagedFile(path, 'has not the pages from the image that it counts');
  return { extents, imageDigests: content.subarray(digestsAt) };
}

function contentOf(file: Buffer, path: string, filePages: number): Buffer {
  const bytes = file.readUInt32LE(MAGIC.length);
  // At worst every page is an extent of its own.
  const limit = COUNTS_BYTES + filePages * (EXTENT_BYTES + 1) + DIGEST_BYTES;
  if (bytes < COUNTS_BYTES || bytes > Math.min(limit, MAX_CONTENT_BYTES)) {
    throw new DamagedFile(path, 'length of its content is impossible');
  }
  const content = Buffer.allocUnsafeSlow(bytes);
  try {
    decodeContent(file.readUInt32LE(MAGIC.length + 4), file.subarray(HEAD_BYTES), content);
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    throw new DamagedFile(path, `cannot be decoded: ${error.message}`, { cause: error });
  }
  return content;
}

/** Cuts extents into lists of `pages` pages each, in order; the last may have fewer. */
export function cutExtents(extents: readonly Extent[], pages: number): Extent[][] {
  const out: Extent[][] = [];
  let current: Extent[] = [];
  let room = pages;
  for (let extent of extents) {
    while (extent.pages > room) {
      out.push([...current, { ...extent, pages: room }]);
      extent = {
        pack: extent.pack,
        filePage: extent.filePage + room,
        pages: extent.pages - room,
        packPage: extent.packPage + room,
      };
      current = [];
      room = pages;
    }
    current.push(extent);
    room -= extent.pages;
  }
  if (current.length > 0) out.push(current);
  return out;
}
