/**
 * Zstandard through the system's libzstd, which the package managers of distributions need themselves. Node's own binding
 * knows no prefix: content that both sides have and that a frame may refer to. Synchronous: for worker threads only.
 */
import { createRequire } from 'node:module';
import type koffiModule from 'koffi' with { 'resolution-mode': 'import' };

// koffi declares its types for ES modules only, though it ships a CommonJS build.
const koffi = createRequire(__filename)('koffi') as typeof koffiModule;

/** libzstd could not do it; the message has its own word for why. */
export class ZstdError extends Error {
  override readonly name = 'ZstdError';
}

// ZSTD_cParameter
const COMPRESSION_LEVEL = 100;
const WINDOW_LOG = 101;

/** A size_t: beyond what a number holds, which is where the error codes are, it is a bigint. */
type Size = number | bigint;
type Context = { readonly context: unknown };

interface Library {
  readonly compressor: Context;
  readonly decompressor: Context;
  readonly bound: (bytes: number) => Size;
  readonly set: (context: unknown, parameter: number, value: number) => Size;
  readonly compressorPrefix: (context: unknown, prefix: Uint8Array | null, bytes: number) => Size;
  readonly compress: (c: unknown, into: Uint8Array, room: number, from: Uint8Array, bytes: number) => Size;
  readonly decompressorPrefix: (context: unknown, prefix: Uint8Array | null, bytes: number) => Size;
  readonly decompress: (c: unknown, into: Uint8Array, room: number, from: Uint8Array, bytes: number) => Size;
  readonly errorName: (result: Size) => string;
  readonly version: () => string;
}

let loaded: Library | undefined;

/** One context of each kind per thread: they are reused, and end with the process. */
function library(): Library {
  if (loaded !== undefined) return loaded;
  const zstd = koffi.load('libzstd.so.1');
  const create = (prototype: string): Context => ({ context: (zstd.func(prototype) as () => unknown)() });
  loaded = {
    compressor: create('void *ZSTD_createCCtx()'),
    decompressor: create('void *ZSTD_createDCtx()'),
    bound: zstd.func('size_t ZSTD_compressBound(size_t n)') as Library['bound'],
    set: zstd.func('size_t ZSTD_CCtx_setParameter(void *c, int parameter, int value)') as Library['set'],
    compressorPrefix: zstd.func(
      'size_t ZSTD_CCtx_refPrefix(void *c, const void *prefix, size_t n)',
    ) as Library['compressorPrefix'],
    compress: zstd.func(
      'size_t ZSTD_compress2(void *c, void *into, size_t room, const void *from, size_t n)',
    ) as Library['compress'],
    decompressorPrefix: zstd.func(
      'size_t ZSTD_DCtx_refPrefix(void *c, const void *prefix, size_t n)',
    ) as Library['decompressorPrefix'],
    decompress: zstd.func(
      'size_t ZSTD_decompressDCtx(void *c, void *into, size_t room, const void *from, size_t n)',
    ) as Library['decompress'],
    errorName: zstd.func('const char *ZSTD_getErrorName(size_t result)') as Library['errorName'],
    version: zstd.func('const char *ZSTD_versionString()') as Library['version'],
  };
  return loaded;
}

function checked(result: Size): number {
  if (typeof result === 'number') return result;
  throw new ZstdError(library().errorName(result));
}

/**
 * Compresses into one frame.
 * @param prefix what the reader has, too, when it decompresses
 * @param windowLog how far back the frame may refer, prefix included, as a power of two
 * @throws ZstdError
 */
export function compress(
  from: Uint8Array,
  { level, windowLog, prefix }: { level: number; windowLog: number; prefix?: Uint8Array | undefined },
): Buffer {
  const zstd = library();
  const { context } = zstd.compressor;
  checked(zstd.set(context, COMPRESSION_LEVEL, level));
  checked(zstd.set(context, WINDOW_LOG, windowLog));
  checked(zstd.compressorPrefix(context, prefix ?? null, prefix?.length ?? 0));
  const into = Buffer.allocUnsafeSlow(checked(zstd.bound(from.length)));
  const bytes = checked(zstd.compress(context, into, into.length, from, from.length));
  return Buffer.from(into.subarray(0, bytes));
}

/**
 * Decompresses one frame, or several, into the whole of `into`; never writes beyond it.
 * @throws ZstdError also when the content is not exactly as long as `into`
 */
export function decompress(from: Uint8Array, into: Uint8Array, prefix?: Uint8Array): void {
  const zstd = library();
  const { context } = zstd.decompressor;
  checked(zstd.decompressorPrefix(context, prefix ?? null, prefix?.length ?? 0));
  const bytes = checked(zstd.decompress(context, into, into.length, from, from.length));
  if (bytes !== into.length) throw new ZstdError(`${bytes} bytes of content, not ${into.length}`);
}

/** The version of libzstd. Throws when the host does not have it. */
export function zstdVersion(): string {
  return library().version();
}
