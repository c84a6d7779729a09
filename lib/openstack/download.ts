/**
 * Bytes from a service into a file that is either complete and right, or not there: written beside its final name,
 * checked against size and checksum, flushed to disk, then renamed.
 */
import { createHash, getHashes, randomUUID } from 'node:crypto';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { publish } from '../durable';
import { DiskSpaceExhausted, SignatureVerificationError } from '../exceptions';

/** How far a download is. */
export interface DownloadProgress {
  readonly receivedBytes: number;
  readonly totalBytes: number;
}

/** Takes all bytes in order; `holds` says at the end whether they are the right ones. */
export interface BytesCheck {
  update(chunk: Buffer): void;
  holds(): boolean;
}

/** What the bytes have to be. */
export interface Expected {
  readonly id: string;
  readonly sizeBytes: number;
  readonly checksum: string | null;
  readonly hash: { readonly algorithm: string; readonly value: string } | null;
  /** Makes a check of their signature, where that is asked for. */
  readonly newCheck?: (() => BytesCheck) | undefined;
}

/** The service stopped sending before all bytes were there. */
export class DownloadTruncated extends Error {
  constructor(
    readonly receivedBytes: number,
    readonly totalBytes: number,
    options?: ErrorOptions,
  ) {
    super(`The download ended after ${receivedBytes} of ${totalBytes} bytes`, options);
    this.name = 'DownloadTruncated';
  }
}

const ATTEMPTS = 3;
/** A service that sends nothing for this long is taken for gone. */
const STALL_MS = 60_000;

/**
 * Fills `toPath` from what `source` opens; a broken transfer is started over, wrong bytes are not.
 * @throws SignatureVerificationError, DiskSpaceExhausted, DownloadTruncated, what `source` throws, the signal's reason
 */
export async function downloadVerified(
  source: () => Promise<Readable>,
  toPath: string,
  expected: Expected,
  options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: DownloadProgress) => void },
): Promise<void> {
  const partPath = `${toPath}.${randomUUID()}.part`;
  try {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await transfer(await source(), partPath, expected, options);
        break;
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!(error instanceof DownloadTruncated) || attempt === ATTEMPTS) throw error;
      }
    }
    await publish(partPath, toPath);
  } catch (error) {
    await rm(partPath, { force: true });
    if (hasCode(error, 'ENOSPC', 'EDQUOT')) {
      throw new DiskSpaceExhausted(`No space is left for image ${expected.id} at ${dirname(toPath)}`, {
        cause: error,
      });
    }
    throw error;
  }
}

async function transfer(
  stream: Readable,
  partPath: string,
  expected: Expected,
  options: { readonly onProgress?: (progress: DownloadProgress) => void },
): Promise<void> {
  const algorithm = expected.hash?.algorithm.toLowerCase();
  const strong = algorithm !== undefined && getHashes().includes(algorithm);
  const digest = createHash(strong ? algorithm : 'md5');
  const signature = expected.newCheck?.();
  let receivedBytes = 0;
  let file: FileHandle | undefined;
  try {
    file = await open(partPath, 'w', 0o640);
    for await (const chunk of chunksOf(stream, () => receivedBytes, expected.sizeBytes)) {
      receivedBytes += chunk.length;
      if (receivedBytes > expected.sizeBytes) break;
      digest.update(chunk);
      signature?.update(chunk);
      await writeAll(file, chunk);
      options.onProgress?.({ receivedBytes, totalBytes: expected.sizeBytes });
    }
    if (receivedBytes < expected.sizeBytes) throw new DownloadTruncated(receivedBytes, expected.sizeBytes);
    if (receivedBytes > expected.sizeBytes) {
      throw new SignatureVerificationError(
        `Image ${expected.id} is larger than the ${expected.sizeBytes} bytes announced`,
      );
    }
    verifyDigest(
      digest.digest('hex'),
      strong ? expected.hash?.value : (expected.checksum ?? undefined),
      expected.id,
    );
    if (signature?.holds() === false) {
      throw new SignatureVerificationError(`Signature verification for the image ${expected.id} failed`);
    }
    await file.datasync();
  } finally {
    stream.destroy();
    await file?.close();
  }
}

/** The chunks of a stream; its failures, and silence, count as truncation. */
export async function* chunksOf(
  stream: Readable,
  receivedBytes: () => number,
  totalBytes: number,
): AsyncGenerator<Buffer> {
  const chunks = (stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  for (;;) {
    let timer: NodeJS.Timeout | undefined;
    const stalled = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`nothing arrived for ${STALL_MS} ms`)), STALL_MS);
    });
    let next: IteratorResult<Buffer>;
    try {
      next = await Promise.race([chunks.next(), stalled]);
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      throw new DownloadTruncated(receivedBytes(), totalBytes, { cause: new Error(words) });
    } finally {
      clearTimeout(timer);
    }
    if (next.done === true) return;
    yield next.value;
  }
}

async function writeAll(file: FileHandle, chunk: Buffer): Promise<void> {
  for (let offset = 0; offset < chunk.length;) {
    const { bytesWritten } = await file.write(chunk, offset);
    offset += bytesWritten;
  }
}

/** An image without any checksum is as good as its size. */
function verifyDigest(found: string, promised: string | undefined, imageId: string): void {
  if (promised === undefined || promised.toLowerCase() === found) return;
  throw new SignatureVerificationError(
    `Image ${imageId} does not have the checksum that the image service promised`,
  );
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
