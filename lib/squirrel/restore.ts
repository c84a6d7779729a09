/**
 * Reads stored pages back: into files for clones, and to check what is stored and what was written. Synchronous: for
 * worker threads only.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { DamagedFile } from './errors';
import { forEachPage, ZERO_PAGE } from './file-pages';
import { ImageReader } from './image-blocks';
import { pagesOf, type PackFile } from './pack-format';
import { decodeSegment, PackSet } from './pack-reader';
import { cutExtents, DIGEST_BYTES, GROUP_PAGES, IMAGE, PAGE_BYTES, type Extent } from './page-map';
import { readMap, type StoredMap } from './live-pages';
import { WRITE_WORDS, type PlannedImagePages, type PlannedSegment } from './restore-plan';

/** A segment of a plan, with the memory of those that it has as prefix. */
export interface SegmentTask extends Omit<PlannedSegment, 'prefix' | 'kept'> {
  readonly prefix: readonly {
    readonly memory: SharedArrayBuffer;
    readonly page: number;
    readonly pages: number;
  }[];
  /** Where others find what was decoded. */
  readonly memory: SharedArrayBuffer | undefined;
}

/** Segments to be decoded one after the other, in the same memory: fresh memory costs as much as a fifth of the decoding. */
export interface SegmentsTask {
  readonly segments: readonly SegmentTask[];
  /** The files of the µVM. */
  readonly paths: readonly string[];
}

/** Pages from the image, to be copied into a file. */
export interface ImageTask extends PlannedImagePages {
  readonly imagePath: string;
  readonly path: string;
}

/** Where a file of a µVM is stored. */
export interface StoredFileTask {
  readonly map: StoredMap;
  /** By position, as the map names them. */
  readonly packs: readonly PackFile[];
  /** The base file of the image. */
  readonly imagePath: string;
}

export interface CompareTask extends StoredFileTask {
  readonly path: string;
}

/** Decodes segments, checked, and writes their pages to where they belong. */
export function writeSegments({ segments, paths }: SegmentsTask): { pages: number } {
  const content = new Scratch();
  const scratch = { stored: new Scratch(), prefix: new Scratch() };
  const fds: number[] = [];
  let pages = 0;
  try {
    for (const path of paths) fds.push(openSync(path, 'r+'));
    for (const segment of segments) {
      const bytes = segment.pages * PAGE_BYTES;
      const into = segment.memory === undefined ? content.take(bytes) : Buffer.from(segment.memory, 0, bytes);
      readSegment(segment, into, scratch);
      pages += writePages(segment.writes, into, fds);
    }
    return { pages };
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

function readSegment(
  segment: SegmentTask,
  into: Buffer,
  scratch: { readonly stored: Scratch; readonly prefix: Scratch },
): void {
  const { path } = segment.pack;
  const pack = open(path);
  try {
    const stored = scratch.stored.take(segment.storedBytes);
    decodeSegment(pack, path, segment, prefixOf(segment, scratch.prefix), into, stored);
  } finally {
    closeSync(pack);
  }
}

function writePages(writes: Uint32Array, from: Buffer, fds: readonly number[]): number {
  let pages = 0;
  for (let at = 0; at < writes.length; at += WRITE_WORDS) {
    const [file = 0, to = 0, first = 0, count = 0] = writes.subarray(at, at + WRITE_WORDS);
    const fd = fds[file];
    if (fd === undefined) throw new RangeError(`no file ${file}`);
    writeAll(fd, from.subarray(first * PAGE_BYTES, (first + count) * PAGE_BYTES), to * PAGE_BYTES);
    pages += count;
  }
  return pages;
}

/** Memory that is used again and again. */
class Scratch {
  private memory = Buffer.alloc(0);

  /** So many bytes with anything in them, until the next call. */
  take(bytes: number): Buffer {
    if (this.memory.length < bytes) this.memory = Buffer.allocUnsafeSlow(bytes);
    return this.memory.subarray(0, bytes);
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new DamagedFile(path, 'cannot be opened', { cause: error });
  }
}

function prefixOf({ prefix }: SegmentTask, scratch: Scratch): Buffer | undefined {
  if (prefix.length === 0) return undefined;
  const into = scratch.take(pagesOf(prefix) * PAGE_BYTES);
  let at = 0;
  for (const { memory, page, pages } of prefix) {
    at += Buffer.from(memory, page * PAGE_BYTES, pages * PAGE_BYTES).copy(into, at);
  }
  return into;
}

function writeAll(fd: number, data: Buffer, position: number): void {
  for (let done = 0; done < data.length;) {
    done += writeSync(fd, data, done, data.length - done, position + done);
  }
}

/** Copies pages from the image, checked, to where they belong. */
export function writeImagePages({ imagePath, path, groups }: ImageTask): { pages: number } {
  const image = new ImageReader(imagePath);
  const fd = openSync(path, 'r+');
  let pages = 0;
  try {
    for (const { extents, digest } of groups) {
      const content = image.group(extents, digest);
      let at = 0;
      for (const { filePage, pages: count } of extents) {
        writeAll(fd, content.subarray(at, at + count * PAGE_BYTES), filePage * PAGE_BYTES);
        at += count * PAGE_BYTES;
        pages += count;
      }
    }
    return { pages };
  } finally {
    closeSync(fd);
    image.close();
  }
}

/**
 * Checks a page map, and the pages from the image that it vouches for; packs have to be checked by themselves.
 * @throws DamagedFile
 */
export function checkMap(task: StoredFileTask): { pages: number } {
  const { extents, imageDigests } = readMap(task.map, task.packs.length);
  const sources = new Sources(task);
  try {
    for (const extent of extents) sources.checkBounds(extent);
    const fromImage = extents.filter((extent) => extent.pack === IMAGE);
    sources.checkImagePages(fromImage, imageDigests);
    return { pages: pagesOf(fromImage) };
  } finally {
    sources.close();
  }
}

/** Checks a written-out file against the pages it was made of: extents equal, everything else zero. */
export function compare(task: CompareTask): { pages: number } {
  const { extents } = readMap(task.map, task.packs.length);
  const sources = new Sources(task);
  const stored = Buffer.alloc(PAGE_BYTES);
  try {
    let position = 0;
    const size = forEachPage(task.path, (page, number) => {
      let extent = extents[position];
      while (extent !== undefined && extent.filePage + extent.pages <= number) {
        position += 1;
        extent = extents[position];
      }
      let expected = ZERO_PAGE;
      if (extent !== undefined && extent.filePage <= number) {
        sources.read(extent, number - extent.filePage, stored);
        expected = stored;
      }
      if (!page.equals(expected)) throw new DamagedFile(task.path, `page ${number} is not what was stored`);
    });
    const { sizeBytes } = task.map;
    if (size !== sizeBytes) throw new DamagedFile(task.path, `has ${size} bytes, not ${sizeBytes}`);
    return { pages: Math.ceil(size / PAGE_BYTES) };
  } finally {
    sources.close();
  }
}

/** Opens packs and the image as they are first needed. */
class Sources {
  private readonly set = new PackSet();
  private opened: ImageReader | undefined;

  constructor(private readonly task: StoredFileTask) {}

  /** Reads the page at `offset` of an extent; one from the image unchecked. */
  read(extent: Extent, offset: number, into: Buffer): void {
    if (extent.pack === IMAGE) {
      this.image().read(extent.packPage + offset, into);
      return;
    }
    const file = this.task.packs[extent.pack];
    if (file === undefined) throw new RangeError(`no pack ${extent.pack}`);
    this.set.reader(file).read(extent.packPage + offset, into, 0);
  }

  checkBounds({ pack, packPage, pages }: Extent): void {
    const file = pack === IMAGE ? undefined : this.task.packs[pack];
    if (file !== undefined && packPage + pages > this.set.reader(file).pages) {
      throw new DamagedFile(this.task.map.path, `refers beyond the end of ${file.path}`);
    }
  }

  checkImagePages(fromImage: readonly Extent[], digests: Uint8Array): void {
    cutExtents(fromImage, GROUP_PAGES).forEach((group, number) => {
      this.image().group(group, digests.subarray(number * DIGEST_BYTES, (number + 1) * DIGEST_BYTES));
    });
  }

  close(): void {
    this.set.close();
    this.opened?.close();
  }

  private image(): ImageReader {
    this.opened ??= new ImageReader(this.task.imagePath);
    return this.opened;
  }
}
