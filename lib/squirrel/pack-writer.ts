/** Writes a pack, page by page. Synchronous: for worker threads only. */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { encodeBlockHC, encodeBound } from 'lz4';
import {
  FOOTER_BYTES,
  FOOTER_MAGIC,
  FRAME_BYTES,
  ID_BYTES,
  NOT_COMPRESSED,
  PACK_MAGIC,
  encodeReference,
  type Reference,
} from './pack-format';
import { HASH_BYTES, PAGE_BYTES } from './page-map';

/** LZ4 HC level: 15 % smaller than fast on RAM pages, decodes as fast; 12 gains nothing more. */
const LEVEL = 9;

/** A pack that is being written. */
export class PackWriter {
  private readonly fd: number;
  private readonly frame = Buffer.alloc(FRAME_BYTES);
  private readonly packed = Buffer.alloc(encodeBound(FRAME_BYTES));
  private readonly frameSizes: number[] = [];
  private readonly hashes: Buffer[] = [];
  private readonly references: number[] = [];
  private fill = 0;
  private bytes = 0;

  /**
   * Creates the file; it must not exist.
   * @param bases names of the packs that references may lead to
   */
  constructor(
    readonly path: string,
    private readonly bases: readonly string[],
  ) {
    this.fd = openSync(path, 'wx', 0o644);
    this.write(PACK_MAGIC);
  }

  get pages(): number {
    return this.hashes.length;
  }

  /**
   * Appends a page and returns its position in the pack.
   * @param stored the page, or its XOR with the page at `reference`
   */
  append(stored: Uint8Array, pageDigest: Buffer, reference?: Reference): number {
    this.frame.set(stored, this.fill);
    this.fill += PAGE_BYTES;
    this.hashes.push(pageDigest);
    this.references.push(reference === undefined ? 0 : encodeReference(reference));
    if (this.fill === FRAME_BYTES) this.flush();
    return this.hashes.length - 1;
  }

  /** Writes the index, syncs the file and closes it. Returns the pack's name and its size. */
  finish(): { id: string; bytes: number } {
    this.flush();
    const index = this.index();
    const digest = createHash('sha256').update(index).digest();
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.writeUInt32LE(index.length, 0);
    digest.copy(footer, 4);
    FOOTER_MAGIC.copy(footer, 4 + ID_BYTES);
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

  private index(): Buffer {
    const pages = this.hashes.length;
    const index = Buffer.alloc(
      12 + this.bases.length * ID_BYTES + this.frameSizes.length * 4 + pages * (HASH_BYTES + 4),
    );
    let at = index.writeUInt32LE(this.frameSizes.length, 0);
    at = index.writeUInt32LE(pages, at);
    at = index.writeUInt32LE(this.bases.length, at);
    for (const id of this.bases) at += index.write(id, at, 'hex');
    for (const size of this.frameSizes) at = index.writeUInt32LE(size, at);
    for (const pageDigest of this.hashes) at += pageDigest.copy(index, at);
    for (const reference of this.references) at = index.writeUInt32LE(reference, at);
    return index;
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
