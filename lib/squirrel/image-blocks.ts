/**
 * The guest's own image as a source of pages: its base file is on the host anyway, so pages that are equal to a block of
 * it need not be stored. Synchronous: for worker threads only.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { DamagedFile, ImageMissing } from './errors';
import { forEachPage, readAt } from './file-pages';
import { pageHash } from './pack-format';
import { cutExtents, DIGEST_BYTES, GROUP_PAGES, PAGE_BYTES, type Extent } from './page-map';
import { STRONG_HASH_BYTES, type PageTable } from './page-table';

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
      const place = wanted.find(pageHash(block, STRONG_HASH_BYTES));
      if (place !== undefined && blocks[place.page] === -1) blocks[place.page] = number;
    });
    return blocks;
  }
}

/** Reads blocks of an image back. */
export class ImageReader {
  private readonly fd: number;
  private readonly content = Buffer.allocUnsafeSlow(GROUP_PAGES * PAGE_BYTES);

  /** @throws ImageMissing when the host does not have the file */
  constructor(private readonly path: string) {
    try {
      this.fd = openSync(path, 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new ImageMissing(path);
      throw new DamagedFile(path, 'cannot be opened', { cause: error });
    }
  }

  /** Fills `into` with blocks that follow each other, unchecked. */
  read(block: number, into: Buffer): void {
    // The last block of a file may be a part of one, and a file that was cut off does not have its digests.
    into.fill(0, readAt(this.fd, into, block * PAGE_BYTES));
  }

  /**
   * The pages of a group, one after the other; valid until the next call.
   * @throws DamagedFile when the image is not the one that the µVM was baked from
   */
  group(extents: readonly Extent[], digest: Uint8Array): Buffer {
    const content = this.readGroup(extents);
    if (!createHash('sha256').update(content).digest().equals(digest)) {
      const first = Math.min(...extents.map((extent) => extent.packPage));
      const last = Math.max(...extents.map((extent) => extent.packPage + extent.pages - 1));
      throw new DamagedFile(
        this.path,
        `among blocks ${first} to ${last} the image is not what it was at the bake`,
      );
    }
    return content;
  }

  /**
   * The digests of pages from the image, group by group.
   * @param hashes of the pages as they should be, STRONG_HASH_BYTES each
   * @throws DamagedFile when the image is no longer what it was found to be
   */
  digests(extents: readonly Extent[], hashes: readonly Buffer[]): Buffer {
    let page = 0;
    const groups = cutExtents(extents, GROUP_PAGES).map((group) => {
      const content = this.readGroup(group);
      for (let at = 0; at < content.length; at += PAGE_BYTES) {
        const found = pageHash(content.subarray(at, at + PAGE_BYTES), STRONG_HASH_BYTES);
        const expected = hashes[page];
        if (expected === undefined || !found.equals(expected)) {
          throw new DamagedFile(this.path, 'changed while a µVM was stored');
        }
        page += 1;
      }
      return createHash('sha256').update(content).digest();
    });
    return Buffer.concat(groups, groups.length * DIGEST_BYTES);
  }

  close(): void {
    closeSync(this.fd);
  }

  private readGroup(extents: readonly Extent[]): Buffer {
    let at = 0;
    for (const { packPage, pages } of extents) {
      this.read(packPage, this.content.subarray(at, at + pages * PAGE_BYTES));
      at += pages * PAGE_BYTES;
    }
    return this.content.subarray(0, at);
  }
}
