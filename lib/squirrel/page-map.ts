/**
 * Page maps: which pages of which packs, and which blocks of the guest's image, a file is made of. Zero pages have no entry.
 *
 * Layout, little endian: magic (8 bytes), u32 number of extents, u32 number of pages from the image; per extent four u32:
 * first page in the file, number of pages, position of the pack in the manifest's list (or 0xffffffff: the image), first
 * page in that pack or image; then 16 bytes of hash per page from the image. Everything is in file order.
 */
import { createHash } from 'node:crypto';
import { DamagedFile } from './errors';

export const PAGE_BYTES = 4096;
/** Bytes of a page's hash, here and in packs. */
export const HASH_BYTES = 16;
/** Stands for the image where a pack's position is expected. */
export const IMAGE = 0xffffffff;
const MAGIC = Buffer.from('PBMAP\0\0\x02', 'latin1');
const HEADER_BYTES = MAGIC.length + 8;
const EXTENT_WORDS = 4;

/** A run of pages that are neighbours in the file as well as in the pack or image. */
export interface Extent {
  readonly filePage: number;
  readonly pages: number;
  /** Position in the manifest's `packs`, or IMAGE. */
  readonly pack: number;
  readonly packPage: number;
  /** For pages from the image: position of the first one's hash in the map's list. */
  readonly hash: number;
}

/** What a file is made of. */
export interface PageMap {
  readonly extents: readonly Extent[];
  /** HASH_BYTES for each page from the image. */
  readonly imageHashes: Uint8Array;
}

/** Collects pages in file order into extents. */
export class PageMapBuilder {
  private readonly extents: { filePage: number; pages: number; pack: number; packPage: number }[] = [];
  private readonly imageHashes: Uint8Array[] = [];

  /** Adds a page from the image. */
  addImage(filePage: number, block: number, hash: Uint8Array): void {
    this.imageHashes.push(hash);
    this.add(filePage, IMAGE, block);
  }

  get imagePages(): number {
    return this.imageHashes.length;
  }

  add(filePage: number, pack: number, packPage: number): void {
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

  /** The map as the bytes of its file. `packOrder[pack]` is the position of a pack in the manifest. */
  serialise(packOrder: ReadonlyMap<number, number>): Buffer {
    const extentBytes = this.extents.length * EXTENT_WORDS * 4;
    const out = Buffer.alloc(HEADER_BYTES + extentBytes + this.imageHashes.length * HASH_BYTES);
    MAGIC.copy(out);
    let at = out.writeUInt32LE(this.extents.length, MAGIC.length);
    at = out.writeUInt32LE(this.imageHashes.length, at);
    for (const extent of this.extents) {
      at = out.writeUInt32LE(extent.filePage, at);
      at = out.writeUInt32LE(extent.pages, at);
      at = out.writeUInt32LE(packOrder.get(extent.pack) ?? extent.pack, at);
      at = out.writeUInt32LE(extent.packPage, at);
    }
    for (const hash of this.imageHashes) {
      out.set(hash, at);
      at += HASH_BYTES;
    }
    return out;
  }

  /** Positions of the packs in use, in order of first use. */
  packsInUse(): number[] {
    return [...new Set(this.extents.map((extent) => extent.pack))].filter((pack) => pack !== IMAGE);
  }
}

/**
 * Reads a page map.
 * @param digest what the manifest says its SHA-256 is
 * @param sizeBytes of the file that it describes; no extent may lie outside of it
 * @throws DamagedFile
 */
export function parsePageMap(
  content: Buffer,
  path: string,
  digest: string,
  sizeBytes: number,
  packCount: number,
): PageMap {
  if (createHash('sha256').update(content).digest('hex') !== digest) {
    throw new DamagedFile(path, 'digest differs from the manifest');
  }
  if (content.length < HEADER_BYTES || !content.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new DamagedFile(path, 'not a page map');
  }
  const count = content.readUInt32LE(MAGIC.length);
  const imagePages = content.readUInt32LE(MAGIC.length + 4);
  const hashesAt = HEADER_BYTES + count * EXTENT_WORDS * 4;
  if (content.length !== hashesAt + imagePages * HASH_BYTES) throw new DamagedFile(path, 'length is wrong');
  const filePages = Math.ceil(sizeBytes / PAGE_BYTES);
  const extents: Extent[] = [];
  let next = 0;
  let hash = 0;
  for (let at = HEADER_BYTES; at < hashesAt; at += EXTENT_WORDS * 4) {
    const extent = {
      filePage: content.readUInt32LE(at),
      pages: content.readUInt32LE(at + 4),
      pack: content.readUInt32LE(at + 8),
      packPage: content.readUInt32LE(at + 12),
      hash,
    };
    const end = extent.filePage + extent.pages;
    const known = extent.pack < packCount || extent.pack === IMAGE;
    if (extent.filePage < next || extent.pages === 0 || end > filePages || !known) {
      throw new DamagedFile(path, `extent of page ${extent.filePage} is out of place`);
    }
    if (extent.pack === IMAGE) hash += extent.pages;
    next = end;
    extents.push(extent);
  }
  if (hash !== imagePages) throw new DamagedFile(path, 'has not one hash for each page from the image');
  return { extents, imageHashes: content.subarray(hashesAt) };
}

/** Cuts extents into at most `parts` lists of about the same number of pages, in file order. */
export function splitExtents(extents: readonly Extent[], parts: number): Extent[][] {
  const total = extents.reduce((sum, extent) => sum + extent.pages, 0);
  const share = Math.max(Math.ceil(total / parts), 1);
  const out: Extent[][] = [];
  let current: Extent[] = [];
  let room = share;
  for (let extent of extents) {
    while (extent.pages > room) {
      current.push({ ...extent, pages: room });
      out.push(current);
      extent = {
        pack: extent.pack,
        filePage: extent.filePage + room,
        pages: extent.pages - room,
        packPage: extent.packPage + room,
        hash: extent.hash + (extent.pack === IMAGE ? room : 0),
      };
      current = [];
      room = share;
    }
    current.push(extent);
    room -= extent.pages;
  }
  if (current.length > 0) out.push(current);
  return out;
}
