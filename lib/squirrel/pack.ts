/**
 * Packs: pages in LZ4 frames of 64 KiB, with an index that has a hash of every page.
 *
 * Layout, little endian:
 *   magic (8 bytes)
 *   frames: 16 pages each (the last may have fewer), an LZ4 block, or the bare pages where LZ4 does not help
 *   index: u32 frames, u32 pages, per frame u32 stored bytes (top bit: not compressed), per page 16 bytes of hash
 *   footer: u32 index bytes, SHA-256 of the index (32 bytes), magic (8 bytes)
 * A pack is named by the SHA-256 of its index. Page hash: the first 16 bytes of the page's SHA-256.
 *
 * Everything here is synchronous: it runs in worker threads only.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { createHash, hash } from 'node:crypto';
import { decodeBlock, encodeBlockHC, encodeBound } from 'lz4';
import { DamagedFile } from './errors';
import { PAGE_BYTES } from './page-map';

export const HASH_BYTES = 16;
const FRAME_PAGES = 16;
const FRAME_BYTES = FRAME_PAGES * PAGE_BYTES;
const MAGIC = Buffer.from('PBPACK\0\x01', 'latin1');
const FOOTER_MAGIC = Buffer.from('PBPKEND\x01', 'latin1');
const FOOTER_BYTES = 4 + 32 + FOOTER_MAGIC.length;
const NOT_COMPRESSED = 0x80000000;
/** LZ4 HC level: 15 % smaller than fast on RAM pages, decodes as fast; 12 gains nothing more. */
const LEVEL = 9;
/** Decoded frames kept while reading: pages shared by content lie scattered. */
const FRAMES_KEPT = 256;

/** The hash that identifies a page. */
export function pageHash(page: Uint8Array): Buffer {
  return hash('sha256', page, 'buffer').subarray(0, HASH_BYTES);
}

/** Writes a pack, page by page. */
export class PackWriter {
  private readonly fd: number;
  private readonly frame = Buffer.alloc(FRAME_BYTES);
  private readonly packed = Buffer.alloc(encodeBound(FRAME_BYTES));
  private readonly frameSizes: number[] = [];
  private readonly hashes: Buffer[] = [];
  private fill = 0;
  private bytes = 0;

  /** Creates the file; it must not exist. */
  constructor(readonly path: string) {
    this.fd = openSync(path, 'wx', 0o644);
    this.write(MAGIC);
  }

  get pages(): number {
    return this.hashes.length;
  }

  /** Appends a page of PAGE_BYTES and returns its position in the pack. */
  append(page: Uint8Array, pageDigest: Buffer): number {
    this.frame.set(page, this.fill);
    this.fill += PAGE_BYTES;
    this.hashes.push(pageDigest);
    if (this.fill === FRAME_BYTES) this.flush();
    return this.hashes.length - 1;
  }

  /** Writes the index, syncs the file and closes it. Returns the pack's name and its size. */
  finish(): { id: string; bytes: number } {
    this.flush();
    const index = Buffer.alloc(8 + this.frameSizes.length * 4 + this.hashes.length * HASH_BYTES);
    let at = index.writeUInt32LE(this.frameSizes.length, 0);
    at = index.writeUInt32LE(this.hashes.length, at);
    for (const size of this.frameSizes) at = index.writeUInt32LE(size, at);
    for (const pageDigest of this.hashes) at += pageDigest.copy(index, at);
    const digest = createHash('sha256').update(index).digest();
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.writeUInt32LE(index.length, 0);
    digest.copy(footer, 4);
    FOOTER_MAGIC.copy(footer, 36);
    this.write(index);
    this.write(footer);
    fsyncSync(this.fd);
    closeSync(this.fd);
    return { id: digest.toString('hex'), bytes: this.bytes };
  }

  /** Closes the file without finishing it. */
  abandon(): void {
    closeSync(this.fd);
  }

  private flush(): void {
    if (this.fill === 0) return;
    const raw = this.frame.subarray(0, this.fill);
    const size = encodeBlockHC(raw, this.packed, LEVEL);
    if (size > 0 && size < raw.length) {
      this.frameSizes.push(size);
      this.write(this.packed.subarray(0, size));
    } else {
      this.frameSizes.push((raw.length | NOT_COMPRESSED) >>> 0);
      this.write(raw);
    }
    this.fill = 0;
  }

  private write(data: Uint8Array): void {
    for (let done = 0; done < data.length;) done += writeSync(this.fd, data, done);
    this.bytes += data.length;
  }
}

/** Reads a pack; every page is checked against the index, the index against the pack's name. */
export class PackReader {
  /** HASH_BYTES per page. */
  readonly hashes: Buffer;
  readonly pages: number;
  private readonly fd: number;
  private readonly frameOffsets: Float64Array;
  private readonly frameSizes: Uint32Array;
  private readonly frames = new Map<number, Buffer>();
  private readonly packed = Buffer.alloc(encodeBound(FRAME_BYTES));

  /** @throws DamagedFile when the file is not there or its index is not the one that `id` names */
  constructor(
    readonly path: string,
    id: string,
  ) {
    try {
      this.fd = openSync(path, 'r');
    } catch (error) {
      throw new DamagedFile(path, 'cannot be opened', { cause: error });
    }
    try {
      const size = fstatSync(this.fd).size;
      const index = this.readIndex(size, id);
      const frameCount = index.readUInt32LE(0);
      this.pages = index.readUInt32LE(4);
      const hashesAt = 8 + frameCount * 4;
      if (
        frameCount !== Math.ceil(this.pages / FRAME_PAGES) ||
        index.length !== hashesAt + this.pages * HASH_BYTES
      ) {
        throw new DamagedFile(path, 'index has the wrong length');
      }
      this.hashes = index.subarray(hashesAt);
      this.frameSizes = new Uint32Array(frameCount);
      this.frameOffsets = new Float64Array(frameCount);
      let offset = MAGIC.length;
      for (let frame = 0; frame < frameCount; frame += 1) {
        const stored = index.readUInt32LE(8 + frame * 4);
        this.frameSizes[frame] = stored;
        this.frameOffsets[frame] = offset;
        offset += stored % NOT_COMPRESSED;
      }
      if (offset + index.length + FOOTER_BYTES !== size) throw new DamagedFile(path, 'length is wrong');
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  /**
   * A page, checked. The returned buffer is valid until the next call.
   * @throws DamagedFile
   */
  page(position: number): Buffer {
    if (position >= this.pages) throw new DamagedFile(this.path, `has no page ${position}`);
    const within = (position % FRAME_PAGES) * PAGE_BYTES;
    return this.frame(Math.floor(position / FRAME_PAGES)).subarray(within, within + PAGE_BYTES);
  }

  close(): void {
    closeSync(this.fd);
    this.frames.clear();
  }

  private readIndex(size: number, id: string): Buffer {
    const footer = Buffer.alloc(FOOTER_BYTES);
    if (size < MAGIC.length + 8 + FOOTER_BYTES) throw new DamagedFile(this.path, 'too short');
    this.read(footer, size - FOOTER_BYTES);
    if (!footer.subarray(36).equals(FOOTER_MAGIC))
      throw new DamagedFile(this.path, 'ends before its footer does');
    const length = footer.readUInt32LE(0);
    if (length < 8 || length > size - FOOTER_BYTES - MAGIC.length)
      throw new DamagedFile(this.path, 'footer is wrong');
    const index = Buffer.alloc(length);
    this.read(index, size - FOOTER_BYTES - length);
    const digest = createHash('sha256').update(index).digest();
    if (digest.toString('hex') !== id)
      throw new DamagedFile(this.path, 'index is not the one that was stored');
    if (!digest.equals(footer.subarray(4, 36))) throw new DamagedFile(this.path, 'footer is wrong');
    const magic = Buffer.alloc(MAGIC.length);
    this.read(magic, 0);
    if (!magic.equals(MAGIC)) throw new DamagedFile(this.path, 'header is wrong');
    return index;
  }

  private frame(frame: number): Buffer {
    const kept = this.frames.get(frame);
    if (kept !== undefined) return kept;
    const evicted = this.frames.size >= FRAMES_KEPT ? this.frames.entries().next().value : undefined;
    if (evicted !== undefined) this.frames.delete(evicted[0]);
    const buffer = evicted?.[1] ?? Buffer.allocUnsafe(FRAME_BYTES);
    const stored = this.frameSizes[frame] ?? 0;
    const first = frame * FRAME_PAGES;
    const rawBytes = Math.min(this.pages - first, FRAME_PAGES) * PAGE_BYTES;
    if (stored >= NOT_COMPRESSED) {
      if (stored - NOT_COMPRESSED !== rawBytes) throw this.wrongFrame(frame);
      this.read(buffer.subarray(0, rawBytes), this.frameOffsets[frame] ?? 0);
    } else {
      if (stored > this.packed.length) throw this.wrongFrame(frame);
      const packed = this.packed.subarray(0, stored);
      this.read(packed, this.frameOffsets[frame] ?? 0);
      if (decodeBlock(packed, buffer, 0, stored) !== rawBytes) throw this.wrongFrame(frame);
    }
    for (let page = 0; page * PAGE_BYTES < rawBytes; page += 1) {
      const digest = pageHash(buffer.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
      const at = (first + page) * HASH_BYTES;
      if (digest.compare(this.hashes, at, at + HASH_BYTES) !== 0) {
        throw new DamagedFile(this.path, `page ${first + page} does not have its hash`);
      }
    }
    this.frames.set(frame, buffer);
    return buffer;
  }

  private wrongFrame(frame: number): DamagedFile {
    return new DamagedFile(this.path, `frame ${frame} cannot be decoded`);
  }

  private read(into: Uint8Array, position: number): void {
    for (let done = 0; done < into.length;) {
      const count = readSync(this.fd, into, done, into.length - done, position + done);
      if (count === 0) throw new DamagedFile(this.path, 'ends too early');
      done += count;
    }
  }
}
