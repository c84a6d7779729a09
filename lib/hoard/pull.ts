/**
 * Fetches a µVM from the object store: what the cache lacks, segment by segment. Each segment is checked and made durable
 * as it comes, so that a fetch that is cut off, however rudely, goes on where it was.
 */
import { randomUUID } from 'node:crypto';
import { open, readFile, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { publish } from '../durable';
import { ObjectRefused } from '../openstack';
import { DamagedFile, type Squirrel, type UvmManifest, UnsupportedFormat, fileNameOf } from '../squirrel';
import { SEGMENT_BYTES, segmentBytes, type Entry, type StoredParcelFile } from './entry';
import type { Transfer, TransferOptions } from './transfer';
import { entryName, type StoredKey, type UvmStore } from './uvm-store';

/** What a fetch brought. */
export interface Pulled extends Transfer {
  readonly manifest: UvmManifest;
}

/** The key that a manifest's µVM has by what it says of itself. */
export type KeyOf = (manifest: UvmManifest) => string;

/**
 * Fetches a µVM; undefined when it is not in the store.
 * @throws ObjectRefused when it is not what it should be; the cache is as before then, and what came is thrown away
 */
export async function pull(
  squirrel: Pick<Squirrel, 'lacks' | 'receive' | 'admit'>,
  store: UvmStore,
  uvm: StoredKey,
  keyOf: KeyOf,
  options: TransferOptions & {
    /** Leaves alone what was not baked after this. */
    readonly newerThan?: string | undefined;
  },
): Promise<Pulled | undefined> {
  const entry = await store.entry(uvm, options.signal);
  if (entry === undefined) return undefined;
  if (options.newerThan !== undefined && entry.manifest.bakedAt <= options.newerThan) return undefined;
  if (keyOf(entry.manifest) !== uvm.key) {
    throw new ObjectRefused(entryName(uvm), 'its key is not that of what it says of itself');
  }
  const lacking = await filesToFetch(squirrel, entry);
  const totalBytes = entry.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const fetchBytes = lacking.reduce((sum, file) => sum + file.sizeBytes, 0);
  // Its segments, and the files that they are put together to.
  return await squirrel.receive(uvm.key, 2 * fetchBytes, async (directory) => {
    const fetching = new Fetching(store, uvm.key, directory, totalBytes, totalBytes - fetchBytes, options);
    await fetching.tidy(lacking);
    for (const file of lacking) await fetching.file(file);
    try {
      const manifest = await squirrel.admit(entry.text, directory);
      return { manifest, ...fetching.transfer };
    } catch (error) {
      if (!(error instanceof DamagedFile || error instanceof UnsupportedFormat)) throw error;
      await rm(directory, { recursive: true, force: true });
      throw new ObjectRefused(entryName(uvm), error.message, { cause: error });
    }
  });
}

async function filesToFetch(squirrel: Pick<Squirrel, 'lacks'>, entry: Entry): Promise<StoredParcelFile[]> {
  const lacking = new Set((await squirrel.lacks(entry.manifest)).map(fileNameOf));
  return entry.files.filter((file) => lacking.has(fileNameOf(file)));
}

class Fetching {
  private sentBytes = 0;

  constructor(
    private readonly store: UvmStore,
    private readonly key: string,
    private readonly directory: string,
    private readonly totalBytes: number,
    private doneBytes: number,
    private readonly options: TransferOptions,
  ) {}

  get transfer(): Transfer {
    return { key: this.key, totalBytes: this.totalBytes, sentBytes: this.sentBytes };
  }

  /** Removes what an earlier attempt left that this one has no use for. */
  async tidy(files: readonly StoredParcelFile[]): Promise<void> {
    const wanted = new Set(files.flatMap((file) => [fileNameOf(file), ...file.segments]));
    for (const name of await readdir(this.directory)) {
      if (!wanted.has(name)) await rm(join(this.directory, name), { recursive: true, force: true });
    }
  }

  /** Fetches the segments that are not here yet and puts the file together. */
  async file(file: StoredParcelFile): Promise<void> {
    const path = join(this.directory, fileNameOf(file));
    if ((await sizeOf(path)) === file.sizeBytes) {
      this.progress(file.sizeBytes);
      return;
    }
    for (const [position, digest] of file.segments.entries()) {
      const sizeBytes = segmentBytes(file, position);
      if ((await sizeOf(join(this.directory, digest))) === sizeBytes) this.progress(sizeBytes);
      else await this.segment(digest, sizeBytes);
    }
    await this.assemble(file, path);
  }

  private async segment(digest: string, sizeBytes: number): Promise<void> {
    const { pace, signal } = this.options;
    const content = await this.store.segment(digest, sizeBytes, {
      signal,
      onBytes: async (count) => {
        this.sentBytes += count;
        this.progress(count);
        await pace.pass(count, signal);
      },
    });
    await this.write(join(this.directory, digest), [content]);
  }

  private async assemble(file: StoredParcelFile, path: string): Promise<void> {
    const segments = file.segments.map((digest) => join(this.directory, digest));
    await this.write(path, contentsOf(segments));
    for (const segment of segments) await rm(segment, { force: true });
  }

  /** A file that is whole and durable as soon as it has its name. */
  private async write(path: string, parts: readonly Buffer[] | AsyncIterable<Buffer>): Promise<void> {
    const partPath = join(this.directory, `${randomUUID()}.part`);
    const handle = await open(partPath, 'wx', 0o644);
    try {
      for await (const part of parts) {
        for (let done = 0; done < part.length;) {
          done += (await handle.write(part, done, Math.min(part.length - done, SEGMENT_BYTES))).bytesWritten;
        }
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await publish(partPath, path);
  }

  private progress(bytes: number): void {
    this.doneBytes += bytes;
    this.options.onProgress?.({ ...this.transfer, doneBytes: this.doneBytes });
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return await stat(path).then(
    (found) => found.size,
    () => undefined,
  );
}

async function* contentsOf(paths: readonly string[]): AsyncGenerator<Buffer> {
  for (const path of paths) yield await readFile(path);
}
