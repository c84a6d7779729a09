/**
 * The guest's own image as a source of pages: its base file is on the host anyway, so pages that are equal to a block of
 * it need not be stored. Synchronous: for worker threads only.
 */
import { closeSync, openSync } from 'node:fs';
import { DamagedFile, ImageMissing } from './errors';
import { forEachPage, readAt } from './file-pages';
import { pageHash } from './pack-format';
import { HASH_BYTES, PAGE_BYTES } from './page-map';
import type { PageTable } from './page-table';

/** Few enough that most blocks of an image are passed over without hashing them. */
const FILTER_BITS = 22;

/** 22 bits of a page that differ for most pages: not a hash to rely on. */
function fingerprint(page: Buffer): number {
  const mixed =
    Math.imul(page.readInt32LE(64), 0x9e3779b1) ^
    Math.imul(page.readInt32LE(1376), 0x85ebca77) ^
    Math.imul(page.readInt32LE(2720), 0xc2b2ae3d) ^
    Math.imul(page.readInt32LE(4032), 0x27d4eb2f);
  return Math.imul(mixed, 0x165667b1) >>> (32 - FILTER_BITS);
}

/** Finds which blocks of an image are among the pages of a µVM; memory depends on the µVM, not on the image. */
export class BlockFinder {
  private readonly filter = new Uint8Array(1 << FILTER_BITS);

  /** Says that a block with this content is looked for. */
  want(page: Buffer): void {
    this.filter[fingerprint(page)] = 1;
  }

  /**
   * Reads the image once and notes the first block of each wanted content.
   * @param wanted the hashes looked for; `page` of a place is an index into the result
   * @returns per wanted page its block, or -1
   */
  find(path: string, wanted: PageTable, count: number, progress: (share: number) => void): Float64Array {
    const blocks = new Float64Array(count).fill(-1);
    forEachPage(path, (block, number, total) => {
      if (number % 16384 === 0) progress(number / total);
      if (this.filter[fingerprint(block)] === 0) return;
      const place = wanted.find(pageHash(block));
      if (place !== undefined && blocks[place.page] === -1) blocks[place.page] = number;
    });
    return blocks;
  }
}

/** Reads blocks of an image back, each checked. */
export class ImageReader {
  private readonly fd: number;

  /** @throws ImageMissing when the host does not have the file */
  constructor(private readonly path: string) {
    try {
      this.fd = openSync(path, 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new ImageMissing(path);
      throw new DamagedFile(path, 'cannot be opened', { cause: error });
    }
  }

  /**
   * Fills `into` with blocks that follow each other.
   * @param hashes of the blocks, HASH_BYTES each
   * @throws DamagedFile when the image is not the one that the µVM was baked from
   */
  read(block: number, into: Buffer, hashes: Uint8Array): void {
    const filled = readAt(this.fd, into, block * PAGE_BYTES);
    // The last block of a file may be a part of one.
    if (filled < into.length) into.fill(0, filled);
    for (let page = 0; page * PAGE_BYTES < into.length; page += 1) {
      const digest = pageHash(into.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
      if (!digest.equals(hashes.subarray(page * HASH_BYTES, (page + 1) * HASH_BYTES))) {
        throw new DamagedFile(this.path, `block ${block + page} of the image is not what it was at the bake`);
      }
    }
  }

  close(): void {
    closeSync(this.fd);
  }
}
