/**
 * Reads stored pages back: into files for clones, and to check what is stored and what was written. Synchronous: for
 * worker threads only.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { DamagedFile } from './errors';
import { CHUNK_PAGES, forEachPage, ZERO_PAGE } from './file-pages';
import { ImageReader } from './image-blocks';
import type { PackFile } from './pack-format';
import { PackSet } from './pack-reader';
import { HASH_BYTES, IMAGE, PAGE_BYTES, type Extent } from './page-map';

/** Where the pages of extents are. */
export interface PageSources {
  /** By position, as extents name them. */
  readonly packs: readonly PackFile[];
  /** The base file of the image. */
  readonly imagePath: string | undefined;
  /** The hashes of the page map that the extents are from. */
  readonly imageHashes: Uint8Array;
}

export interface WriteTask extends PageSources {
  readonly extents: readonly Extent[];
  /** An existing file; its pages outside the extents are left alone. */
  readonly path: string;
}

export interface CompareTask extends PageSources {
  readonly extents: readonly Extent[];
  readonly path: string;
  readonly sizeBytes: number;
}

/** Opens packs and the image as they are first needed. */
class Sources {
  private readonly set = new PackSet();
  private image: ImageReader | undefined;

  constructor(private readonly sources: PageSources) {}

  /** Fills `into` with the pages of an extent from `first` on. */
  read(extent: Extent, first: number, into: Buffer): void {
    const pages = into.length / PAGE_BYTES;
    if (extent.pack === IMAGE) {
      const { imagePath, imageHashes } = this.sources;
      if (imagePath === undefined) throw new DamagedFile('the image', 'it is not known where it is');
      this.image ??= new ImageReader(imagePath);
      const from = (extent.hash + first) * HASH_BYTES;
      this.image.read(extent.packPage + first, into, imageHashes.subarray(from, from + pages * HASH_BYTES));
      return;
    }
    const file = this.sources.packs[extent.pack];
    if (file === undefined) throw new RangeError(`no pack ${extent.pack}`);
    const reader = this.set.reader(file);
    for (let page = 0; page < pages; page += 1) {
      reader.read(extent.packPage + first + page, into, page * PAGE_BYTES);
    }
  }

  close(): void {
    this.set.close();
    this.image?.close();
  }
}

/** Writes the pages of the extents to their places in a file, each checked against its hash. */
export function write(task: WriteTask): { pages: number } {
  const sources = new Sources(task);
  const fd = openSync(task.path, 'r+');
  const run = Buffer.alloc(CHUNK_PAGES * PAGE_BYTES);
  let filled = 0;
  let runPage = 0;
  let pages = 0;
  const flush = (): void => {
    const at = runPage * PAGE_BYTES;
    for (let done = 0; done < filled;) done += writeSync(fd, run, done, filled - done, at + done);
    filled = 0;
  };
  try {
    for (const extent of task.extents) {
      if (extent.filePage !== runPage + filled / PAGE_BYTES) flush();
      for (let done = 0; done < extent.pages;) {
        if (filled === run.length) flush();
        if (filled === 0) runPage = extent.filePage + done;
        const count = Math.min(extent.pages - done, (run.length - filled) / PAGE_BYTES);
        sources.read(extent, done, run.subarray(filled, filled + count * PAGE_BYTES));
        filled += count * PAGE_BYTES;
        done += count;
      }
      pages += extent.pages;
    }
    flush();
    return { pages };
  } finally {
    closeSync(fd);
    sources.close();
  }
}

/** Reads every page of a pack. */
export function check(file: PackFile): { pages: number } {
  const set = new PackSet();
  try {
    const reader = set.reader(file);
    const page = Buffer.alloc(PAGE_BYTES);
    for (let position = 0; position < reader.pages; position += 1) reader.read(position, page, 0);
    return { pages: reader.pages };
  } finally {
    set.close();
  }
}

/** Reads every page of extents, from packs and the image. */
export function readAll(task: PageSources & { readonly extents: readonly Extent[] }): { pages: number } {
  const sources = new Sources(task);
  const page = Buffer.alloc(PAGE_BYTES);
  let pages = 0;
  try {
    for (const extent of task.extents) {
      for (let done = 0; done < extent.pages; done += 1) sources.read(extent, done, page);
      pages += extent.pages;
    }
    return { pages };
  } finally {
    sources.close();
  }
}

/** Checks a written-out file against the pages it was made of: extents equal, everything else zero. */
export function compare(task: CompareTask): { pages: number } {
  const sources = new Sources(task);
  const stored = Buffer.alloc(PAGE_BYTES);
  try {
    let position = 0;
    const size = forEachPage(task.path, (page, number) => {
      let extent = task.extents[position];
      while (extent !== undefined && extent.filePage + extent.pages <= number) {
        position += 1;
        extent = task.extents[position];
      }
      let expected = ZERO_PAGE;
      if (extent !== undefined && extent.filePage <= number) {
        sources.read(extent, number - extent.filePage, stored);
        expected = stored;
      }
      if (!page.equals(expected)) throw new DamagedFile(task.path, `page ${number} is not what was stored`);
    });
    if (size !== task.sizeBytes) throw new DamagedFile(task.path, `has ${size} bytes, not ${task.sizeBytes}`);
    return { pages: Math.ceil(size / PAGE_BYTES) };
  } finally {
    sources.close();
  }
}
