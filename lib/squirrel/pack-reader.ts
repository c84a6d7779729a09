/**
 * Reads packs. Every page is checked against the index, the index against the pack's name. Synchronous: for worker
 * threads only.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { decodeBlock, encodeBound } from 'lz4';
import { DamagedFile } from './errors';
import {
  FOOTER_BYTES,
  FOOTER_MAGIC,
  FRAME_BYTES,
  FRAME_PAGES,
  ID_BYTES,
  MAX_BASES,
  NOT_COMPRESSED,
  PACK_MAGIC,
  decodeReference,
  pageHash,
  xorPage,
  type PackFile,
  type Reference,
} from './pack-format';
import { HASH_BYTES, PAGE_BYTES } from './page-map';

/** Decoded frames kept while reading: pages that are shared or referred to lie scattered. 16 MiB. */
const FRAMES_KEPT = 256;

/** Packs that are open, each once, so that references share what is decoded. */
export class PackSet {
  private readonly open = new Map<string, PackReader>();

  /** @throws DamagedFile */
  reader(file: PackFile): PackReader {
    let reader = this.open.get(file.id);
    if (reader === undefined) {
      reader = new PackReader(file, this);
      this.open.set(file.id, reader);
    }
    return reader;
  }

  close(): void {
    for (const reader of this.open.values()) reader.close();
    this.open.clear();
  }
}

/** One pack. */
export class PackReader {
  readonly path: string;
  /** HASH_BYTES per page. */
  readonly hashes: Buffer;
  readonly pages: number;
  /** The packs that references lead to. */
  readonly bases: readonly PackFile[];
  private readonly fd: number;
  private readonly references: Buffer;
  private readonly frameOffsets: Float64Array;
  private readonly frameSizes: Uint32Array;
  private readonly frames = new Map<number, Buffer>();
  private readonly packed = Buffer.alloc(encodeBound(FRAME_BYTES));

  /**
   * @param set where base packs are opened
   * @throws DamagedFile when the file is not there or its index is not the one that its name promises
   */
  constructor(
    file: PackFile,
    private readonly set: PackSet,
  ) {
    this.path = file.path;
    try {
      this.fd = openSync(file.path, 'r');
    } catch (error) {
      throw new DamagedFile(file.path, 'cannot be opened', { cause: error });
    }
    try {
      const size = fstatSync(this.fd).size;
      const index = this.readIndex(size, file.id);
      const frameCount = index.readUInt32LE(0);
      this.pages = index.readUInt32LE(4);
      const baseCount = index.readUInt32LE(8);
      const framesAt = 12 + baseCount * ID_BYTES;
      const hashesAt = framesAt + frameCount * 4;
      const referencesAt = hashesAt + this.pages * HASH_BYTES;
      if (
        baseCount > MAX_BASES ||
        frameCount !== Math.ceil(this.pages / FRAME_PAGES) ||
        index.length !== referencesAt + this.pages * 4
      ) {
        throw new DamagedFile(file.path, 'index has the wrong length');
      }
      this.bases = Array.from({ length: baseCount }, (_, position) => {
        const id = index.toString('hex', 12 + position * ID_BYTES, 12 + (position + 1) * ID_BYTES);
        return { id, path: join(dirname(file.path), `${id}.pack`) };
      });
      this.hashes = index.subarray(hashesAt, referencesAt);
      this.references = index.subarray(referencesAt);
      this.frameSizes = new Uint32Array(frameCount);
      this.frameOffsets = new Float64Array(frameCount);
      let offset = PACK_MAGIC.length;
      for (let frame = 0; frame < frameCount; frame += 1) {
        const stored = index.readUInt32LE(framesAt + frame * 4);
        this.frameSizes[frame] = stored;
        this.frameOffsets[frame] = offset;
        offset += stored % NOT_COMPRESSED;
      }
      if (offset + index.length + FOOTER_BYTES !== size) throw new DamagedFile(file.path, 'length is wrong');
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  /** What a page is stored as a difference to, if to anything. */
  reference(position: number): Reference | undefined {
    return decodeReference(this.references.readUInt32LE(position * 4));
  }

  /** The hash of a page, as the index has it. */
  digest(position: number): Buffer {
    return this.hashes.subarray(position * HASH_BYTES, (position + 1) * HASH_BYTES);
  }

  /** Stored bytes of the frame that a page is in, divided among the frame's pages. */
  storedBytes(position: number): number {
    const frame = Math.floor(position / FRAME_PAGES);
    const pages = Math.min(this.pages - frame * FRAME_PAGES, FRAME_PAGES);
    return ((this.frameSizes[frame] ?? 0) % NOT_COMPRESSED) / pages;
  }

  /**
   * Writes a page to `into` at `at` (a multiple of the page size) and checks it there.
   * @throws DamagedFile
   */
  read(position: number, into: Buffer, at: number): void {
    this.copyStored(position, into, at);
    const reference = this.reference(position);
    if (reference !== undefined) this.target(reference).xorPlain(reference.page, into, at);
    const digest = pageHash(into.subarray(at, at + PAGE_BYTES));
    if (digest.compare(this.hashes, position * HASH_BYTES, (position + 1) * HASH_BYTES) === 0) return;
    if (reference !== undefined) this.target(reference).read(reference.page, Buffer.alloc(PAGE_BYTES), 0);
    throw new DamagedFile(this.path, `page ${position} does not have its hash`);
  }

  /** Copies a page as it is stored, unchecked: it may be a difference. */
  copyStored(position: number, into: Buffer, at: number): void {
    if (position >= this.pages) throw new DamagedFile(this.path, `has no page ${position}`);
    const within = (position % FRAME_PAGES) * PAGE_BYTES;
    this.frame(Math.floor(position / FRAME_PAGES)).copy(into, at, within, within + PAGE_BYTES);
  }

  close(): void {
    closeSync(this.fd);
    this.frames.clear();
  }

  private target({ base }: Reference): PackReader {
    if (base === undefined) return this;
    const file = this.bases[base];
    if (file === undefined) throw new DamagedFile(this.path, 'refers to a pack that it does not name');
    return this.set.reader(file);
  }

  private xorPlain(position: number, into: Buffer, at: number): void {
    if (position >= this.pages || this.reference(position) !== undefined) {
      throw new DamagedFile(this.path, `page ${position} cannot be referred to`);
    }
    const within = (position % FRAME_PAGES) * PAGE_BYTES;
    xorPage(into, at, this.frame(Math.floor(position / FRAME_PAGES)), within);
  }

  private readIndex(size: number, id: string): Buffer {
    const footer = Buffer.alloc(FOOTER_BYTES);
    if (size < PACK_MAGIC.length + 12 + FOOTER_BYTES) throw new DamagedFile(this.path, 'too short');
    this.readBytes(footer, size - FOOTER_BYTES);
    if (!footer.subarray(4 + ID_BYTES).equals(FOOTER_MAGIC))
      throw new DamagedFile(this.path, 'ends before its footer does');
    const length = footer.readUInt32LE(0);
    if (length < 12 || length > size - FOOTER_BYTES - PACK_MAGIC.length)
      throw new DamagedFile(this.path, 'footer is wrong');
    const index = Buffer.alloc(length);
    this.readBytes(index, size - FOOTER_BYTES - length);
    const digest = createHash('sha256').update(index).digest();
    if (digest.toString('hex') !== id)
      throw new DamagedFile(this.path, 'index is not the one that was stored');
    if (!digest.equals(footer.subarray(4, 4 + ID_BYTES))) throw new DamagedFile(this.path, 'footer is wrong');
    const magic = Buffer.alloc(PACK_MAGIC.length);
    this.readBytes(magic, 0);
    if (!magic.equals(PACK_MAGIC)) throw new DamagedFile(this.path, 'header is wrong');
    return index;
  }

  private frame(frame: number): Buffer {
    const kept = this.frames.get(frame);
    if (kept !== undefined) return kept;
    const evicted = this.frames.size >= FRAMES_KEPT ? this.frames.entries().next().value : undefined;
    if (evicted !== undefined) this.frames.delete(evicted[0]);
    const buffer = evicted?.[1] ?? Buffer.allocUnsafeSlow(FRAME_BYTES);
    const stored = this.frameSizes[frame] ?? 0;
    const rawBytes = Math.min(this.pages - frame * FRAME_PAGES, FRAME_PAGES) * PAGE_BYTES;
    if (stored >= NOT_COMPRESSED) {
      if (stored - NOT_COMPRESSED !== rawBytes) throw this.wrongFrame(frame);
      this.readBytes(buffer.subarray(0, rawBytes), this.frameOffsets[frame] ?? 0);
    } else {
      if (stored > this.packed.length) throw this.wrongFrame(frame);
      const packed = this.packed.subarray(0, stored);
      this.readBytes(packed, this.frameOffsets[frame] ?? 0);
      if (decodeBlock(packed, buffer, 0, stored) !== rawBytes) throw this.wrongFrame(frame);
    }
    this.frames.set(frame, buffer);
    return buffer;
  }

  private wrongFrame(frame: number): DamagedFile {
    return new DamagedFile(this.path, `frame ${frame} cannot be decoded`);
  }

  private readBytes(into: Uint8Array, position: number): void {
    for (let done = 0; done < into.length;) {
      const count = readSync(this.fd, into, done, into.length - done, position + done);
      if (count === 0) throw new DamagedFile(this.path, 'ends too early');
      done += count;
    }
  }
}
