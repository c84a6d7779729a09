/**
 * Reads stored pages back: into files for clones, and to check what is stored and what was written. Synchronous: for
 * worker threads only.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { DamagedFile, SquirrelError } from './errors';
import { forEachPage, ZERO_PAGE } from './file-pages';
import { ImageReader } from './image-blocks';
import { joinRuns, pagesOf, type PackFile } from './pack-format';
import { decodeSegment, PackSet } from './pack-reader';
import { cutExtents, DIGEST_BYTES, GROUP_PAGES, IMAGE, PAGE_BYTES, type Extent } from './page-map';
import { readMap, type StoredMap } from './live-pages';
import { COPY_WORDS, FEED_WORDS, WRITE_WORDS, type RestorePlan } from './restore-plan';

/** A plan, for each of the threads that work it off side by side. */
export interface WriteTask {
  readonly plan: RestorePlan;
  /** The files of the µVM. */
  readonly paths: readonly string[];
  readonly imagePath: string;
  readonly shared: SharedWork;
}

/** What these threads have in common. */
export interface SharedWork {
  /** Per segment its prefix, which the segments that it is from are copied into. */
  readonly prefixes: readonly (SharedArrayBuffer | undefined)[];
  /** Int32: pieces that somebody has taken, those that are done, segments without a prefix that are done, failures. */
  readonly counters: SharedArrayBuffer;
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

const [TAKEN, DONE, FED, FAILED] = [0, 1, 2, 3] as const;
const COUNTERS = 4;
/** For a segment that another thread decodes, which takes some ten milliseconds. */
const FEED_TIMEOUT_MS = 60_000;

/** Has memory for what the threads that work off a plan have in common. */
export function shareWork({ segments }: RestorePlan): SharedWork {
  return {
    prefixes: segments.map(({ prefixPages }) =>
      prefixPages > 0 ? new SharedArrayBuffer(prefixPages * PAGE_BYTES) : undefined,
    ),
    counters: new SharedArrayBuffer(COUNTERS * Int32Array.BYTES_PER_ELEMENT),
  };
}

/**
 * Takes pieces of a plan until none is left, and writes their pages, checked, to where they belong: segments without a
 * prefix first, pages of the image, then segments with one, for which it waits until all prefixes are complete. When one
 * thread fails, the others end, too.
 * @returns whether all pieces are done: true for the thread that ends last, whether or not others have begun
 * @throws DamagedFile when anything is not what was stored
 */
export function writeOut(task: WriteTask): { finished: boolean } {
  const { plan, shared } = task;
  const counters = new Int32Array(shared.counters);
  const first = plan.segments.filter(({ prefixPages }) => prefixPages === 0).length;
  const total = plan.segments.length + plan.images.length;
  let out: Output | undefined;
  let done = 0;
  try {
    for (;;) {
      const piece = Atomics.add(counters, TAKEN, 1);
      if (piece >= total || Atomics.load(counters, FAILED) > 0) break;
      out ??= new Output(task);
      if (piece < first) {
        out.writeSegment(piece);
        Atomics.add(counters, FED, 1);
        Atomics.notify(counters, FED);
      } else if (piece < first + plan.images.length) {
        out.writeImagePages(piece - first);
      } else {
        if (!waitUntilFed(counters, first)) break;
        out.writeSegment(piece - plan.images.length);
      }
      done = Atomics.add(counters, DONE, 1) + 1;
    }
    return { finished: done === total || total === 0 };
  } catch (error) {
    Atomics.add(counters, FAILED, 1);
    Atomics.notify(counters, FED);
    throw error;
  } finally {
    out?.close();
  }
}

/** Returns false when another thread has failed. */
function waitUntilFed(counters: Int32Array, segments: number): boolean {
  for (;;) {
    if (Atomics.load(counters, FAILED) > 0) return false;
    const fed = Atomics.load(counters, FED);
    if (fed === segments) return true;
    if (Atomics.wait(counters, FED, fed, FEED_TIMEOUT_MS) === 'timed-out') {
      throw new SquirrelError(`${segments - fed} segments were not decoded within ${FEED_TIMEOUT_MS} ms`);
    }
  }
}

/** The files of a µVM that is being written out, and memory that is used again and again: fresh memory costs much more. */
class Output {
  private readonly content = new Scratch();
  private readonly stored = new Scratch();
  private readonly fds: number[] = [];
  private image: ImageReader | undefined;

  constructor(private readonly task: WriteTask) {
    try {
      for (const path of task.paths) this.fds.push(openSync(path, 'r+'));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  writeSegment(position: number): void {
    const { plan, shared } = this.task;
    const segment = plan.segments[position];
    if (segment === undefined) throw new RangeError(`no segment ${position}`);
    const { path } = segment.pack;
    const into = this.content.take(segment.pages * PAGE_BYTES);
    const prefix = shared.prefixes[position];
    const pack = open(path);
    try {
      const stored = this.stored.take(segment.storedBytes);
      decodeSegment(pack, path, segment, prefix && Buffer.from(prefix), into, stored);
    } finally {
      closeSync(pack);
    }
    const { feeds, writes } = segment;
    for (let at = 0; at < feeds.length; at += FEED_WORDS) {
      const memory = shared.prefixes[feeds[at] ?? -1];
      if (memory === undefined) throw new RangeError(`segment ${feeds[at]} has no prefix`);
      const from = (feeds[at + 2] ?? 0) * PAGE_BYTES;
      const bytes = (feeds[at + 3] ?? 0) * PAGE_BYTES;
      into.copy(Buffer.from(memory), (feeds[at + 1] ?? 0) * PAGE_BYTES, from, from + bytes);
    }
    for (let at = 0; at < writes.length; at += WRITE_WORDS) {
      const to = (writes[at + 1] ?? 0) * PAGE_BYTES;
      const from = (writes[at + 2] ?? 0) * PAGE_BYTES;
      writeAll(this.fd(writes[at] ?? -1), into, from, (writes[at + 3] ?? 0) * PAGE_BYTES, to);
    }
  }

  writeImagePages(position: number): void {
    const { plan, imagePath } = this.task;
    const planned = plan.images[position];
    if (planned === undefined) throw new RangeError(`no pages of the image ${position}`);
    this.image ??= new ImageReader(imagePath);
    const fd = this.fd(planned.file);
    for (const { copies, digest } of planned.groups) {
      const extents: Extent[] = [];
      for (let at = 0; at < copies.length; at += COPY_WORDS) {
        const [filePage = 0, pages = 0, packPage = 0] = copies.subarray(at, at + COPY_WORDS);
        extents.push({ filePage, pages, pack: IMAGE, packPage });
      }
      const content = this.image.group(extents, digest);
      let at = 0;
      // Half of what lies together in the file is scattered over the image.
      const runs = joinRuns(extents.map(({ filePage, pages }) => ({ page: filePage, pages })));
      for (const { page, pages } of runs) {
        writeAll(fd, content, at, pages * PAGE_BYTES, page * PAGE_BYTES);
        at += pages * PAGE_BYTES;
      }
    }
  }

  close(): void {
    for (const fd of this.fds) closeSync(fd);
    this.image?.close();
  }

  private fd(file: number): number {
    const fd = this.fds[file];
    if (fd === undefined) throw new RangeError(`no file ${file}`);
    return fd;
  }
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

/** Writes a part of `data`; no view of it is made, since there are thousands of these. */
function writeAll(fd: number, data: Buffer, from: number, bytes: number, position: number): void {
  for (let done = 0; done < bytes;) {
    done += writeSync(fd, data, from + done, bytes - done, position + done);
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
