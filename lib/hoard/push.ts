/** Sends a µVM to the object store: the segments that it lacks, then the entry. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Parcel, Squirrel } from '../squirrel';
import { SEGMENT_BYTES, serialiseEntry, type StoredParcelFile } from './entry';
import type { Transfer, TransferOptions } from './transfer';
import type { UvmStore } from './uvm-store';

export interface PushOptions extends TransferOptions {
  /** Also when the store has it: what it has was found damaged. */
  readonly replace?: boolean;
}

/**
 * Sends a µVM; undefined when the store has it.
 * @throws UnknownUvm when this cache does not offer it
 */
export async function push(
  squirrel: Pick<Squirrel, 'parcel'>,
  store: UvmStore,
  key: string,
  options: PushOptions,
): Promise<Transfer | undefined> {
  const { replace = false, signal } = options;
  for (let attempt = 1; ; attempt += 1) {
    const parcel = await squirrel.parcel(key);
    const uvm = { imageId: parcel.manifest.image.id, key };
    if (!replace && (await store.has(uvm, signal))) return undefined;
    try {
      const sending = new Sending(store, parcel, options);
      const files = await sending.segments();
      const written = await store.putEntry(uvm, serialiseEntry(parcel.text, files), { replace, signal });
      return written ? sending.transfer : undefined;
    } catch (error) {
      // A `gc` of this cache moved the pages meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 3) throw error;
    }
  }
}

class Sending {
  private readonly totalBytes: number;
  private doneBytes = 0;
  private sentBytes = 0;

  constructor(
    private readonly store: UvmStore,
    private readonly parcel: Parcel,
    private readonly options: PushOptions,
  ) {
    this.totalBytes = parcel.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  }

  get transfer(): Transfer {
    return { key: this.parcel.manifest.key, totalBytes: this.totalBytes, sentBytes: this.sentBytes };
  }

  /** Sends the segments that the store does not have; those it has but is about to remove are sent, too. */
  async segments(): Promise<StoredParcelFile[]> {
    const garbage = await this.store.garbage(this.options.signal);
    const files: StoredParcelFile[] = [];
    for (const { kind, id, path, sizeBytes } of this.parcel.files) {
      const segments: string[] = [];
      const handle = await open(path, 'r');
      try {
        for (let at = 0; at < sizeBytes; at += SEGMENT_BYTES) {
          const content = Buffer.alloc(Math.min(SEGMENT_BYTES, sizeBytes - at));
          for (let done = 0; done < content.length;) {
            const { bytesRead } = await handle.read(content, done, content.length - done, at + done);
            if (bytesRead === 0) throw new RangeError(`${path} became shorter while it was sent`);
            done += bytesRead;
          }
          segments.push(await this.segment(content, garbage));
        }
      } finally {
        await handle.close();
      }
      files.push({ kind, id, sizeBytes, segments });
    }
    return files;
  }

  private async segment(content: Buffer, garbage: ReadonlyMap<string, number>): Promise<string> {
    const { pace, signal, onProgress } = this.options;
    const digest = createHash('sha256').update(content).digest('hex');
    if (garbage.has(digest) || !(await this.store.hasSegment(digest, content, signal))) {
      await pace.pass(content.length, signal);
      await this.store.putSegment(digest, content, signal);
      this.sentBytes += content.length;
    }
    this.doneBytes += content.length;
    onProgress?.({ ...this.transfer, doneBytes: this.doneBytes });
    return digest;
  }
}
