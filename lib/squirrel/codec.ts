/**
 * How what the cache stores is compressed: LZ4, the lighter one to decode, where it costs little, and zstd where it
 * saves much. Synchronous: for worker threads, but for the few kilobytes of a page map.
 */
import { decodeBlock, encodeBlockHC, encodeBound } from 'lz4';
import { compress, decompress, ZstdError } from './zstd';

/** As it is written in files: one LZ4 block, or one zstd frame. */
export const LZ4 = 1;
export const ZSTD = 2;

/** Level 9: 15 % smaller than fast on memory of guests, decodes as fast; 12 gains nothing more. */
const LZ4_LEVEL = 9;
/**
 * What LZ4 may cost more than zstd: a share, or a few blocks of the disk. Memory of guests becomes 1.5 times as large, and is
 * decoded in a quarter of the time; what is compressed without a prefix is decoded for every µVM of its release.
 */
const LZ4_SHARE = 1.6;
const LZ4_SLACK_BYTES = 16 * 1024;

/** Compressed content. */
export interface Encoded {
  readonly codec: number;
  readonly stored: Uint8Array;
}

/** Content that cannot be decoded; the message says why. */
export class CodecError extends Error {
  override readonly name = 'CodecError';
}

/**
 * Compresses content.
 * @param prefix what the reader has, too; only zstd can use it
 * @throws ZstdError
 */
export function encodeContent(
  content: Uint8Array,
  options: { level: number; windowLog: number; prefix?: Uint8Array | undefined },
): Encoded {
  const zstd = { codec: ZSTD, stored: compress(content, options) };
  if (options.prefix !== undefined) return zstd;
  const source = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  const packed = Buffer.allocUnsafeSlow(encodeBound(source.length));
  const bytes = encodeBlockHC(source, packed, LZ4_LEVEL);
  const limit = Math.max(zstd.stored.length * LZ4_SHARE, zstd.stored.length + LZ4_SLACK_BYTES);
  // 0 is for what does not get smaller.
  return bytes > 0 && bytes <= limit ? { codec: LZ4, stored: Buffer.from(packed.subarray(0, bytes)) } : zstd;
}

/**
 * Decompresses into the whole of `into`; never writes beyond it.
 * @throws CodecError also when the content is not exactly as long as `into`
 */
export function decodeContent(codec: number, stored: Buffer, into: Buffer, prefix?: Buffer): void {
  if (codec === ZSTD) {
    try {
      decompress(stored, into, prefix);
    } catch (error) {
      if (!(error instanceof ZstdError)) throw error;
      throw new CodecError(error.message, { cause: error });
    }
    return;
  }
  if (codec !== LZ4) throw new CodecError(`codec ${codec} is neither LZ4 (${LZ4}) nor zstd (${ZSTD})`);
  if (prefix !== undefined) throw new CodecError('lz4: a prefix is only for zstd');
  const bytes = decodeBlock(stored, into);
  if (bytes !== into.length) throw new CodecError(`lz4: not ${into.length} bytes of content`);
}
