/**
 * Packs: pages in LZ4 frames of 64 KiB, with an index that has a hash of every page.
 *
 * Layout, little endian:
 *   magic (8 bytes)
 *   frames: 16 pages each (the last may have fewer), an LZ4 block, or the bare pages where LZ4 does not help
 *   index: u32 frames, u32 pages, u32 base packs; per base pack its name (32 bytes); per frame u32 stored bytes (top bit:
 *     not compressed); per page 16 bytes of hash; per page u32 reference
 *   footer: u32 index bytes, SHA-256 of the index (32 bytes), magic (8 bytes)
 * A pack is named by the SHA-256 of its index. Page hash: the first 16 bytes of the page's SHA-256.
 *
 * A page with a reference is stored as its XOR with another page, which has none itself. Reference 0 is none; else the
 * top byte is 1 for a page of this pack, 2 and up for the base packs in order, and the rest is the page's position.
 */
import { hash } from 'node:crypto';
import { HASH_BYTES, PAGE_BYTES } from './page-map';

export const FRAME_PAGES = 16;
export const FRAME_BYTES = FRAME_PAGES * PAGE_BYTES;
export const PACK_MAGIC = Buffer.from('PBPACK\0\x02', 'latin1');
export const FOOTER_MAGIC = Buffer.from('PBPKEND\x02', 'latin1');
export const FOOTER_BYTES = 4 + 32 + FOOTER_MAGIC.length;
export const ID_BYTES = 32;
export const NOT_COMPRESSED = 0x80000000;
/** Positions that a reference can name; pages beyond are just never referred to. */
export const REFERABLE_PAGES = 1 << 24;
export const MAX_BASES = 253;

/** A pack on disk; its base packs are its neighbours there. */
export interface PackFile {
  readonly id: string;
  readonly path: string;
}

/** Where the page is that another one is stored as a difference to. */
export interface Reference {
  /** Position among the base packs, or undefined for the pack of the page itself. */
  readonly base: number | undefined;
  readonly page: number;
}

/** A reference as its 32 bits. */
export function encodeReference({ base, page }: Reference): number {
  return ((base === undefined ? 1 : base + 2) * REFERABLE_PAGES + page) >>> 0;
}

/** 32 bits as a reference, or undefined for a page that has none. */
export function decodeReference(bits: number): Reference | undefined {
  if (bits === 0) return undefined;
  const pack = Math.floor(bits / REFERABLE_PAGES);
  return { base: pack < 2 ? undefined : pack - 2, page: bits % REFERABLE_PAGES };
}

/** The hash that identifies a page. */
export function pageHash(page: Uint8Array): Buffer {
  return hash('sha256', page, 'buffer').subarray(0, HASH_BYTES);
}

/** XORs the page at `from` into the page at `at`; both are at positions that are whole words. */
export function xorPage(into: Buffer, at: number, other: Buffer, from: number): void {
  const words = PAGE_BYTES / 4;
  const target = new Int32Array(into.buffer, into.byteOffset + at, words);
  const source = new Int32Array(other.buffer, other.byteOffset + from, words);
  for (let word = 0; word < words; word += 1) target[word] = (target[word] ?? 0) ^ (source[word] ?? 0);
}
