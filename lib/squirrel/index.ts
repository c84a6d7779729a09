/** The cache of µVMs of this host: deduplicated, compressed, verified; see docs/formats.md. */
export {
  CacheBusy,
  DamagedFile,
  ImageMissing,
  NoRoom,
  SquirrelError,
  UnknownUvm,
  UnsupportedFormat,
} from './errors';
export type { StoredFile, UvmDescription, UvmFileName, UvmManifest } from './manifest';
export { parseManifest } from './manifest';
export { fileNameOf, MAX_MAP_BYTES } from './hoard-intake';
export type { Parcel, ParcelFile } from './hoard-intake';
export { Squirrel } from './squirrel';
export { squirrelOptions } from './options';
export { zstdVersion } from './zstd';
export type { CacheLimits, SquirrelOptions } from './options';
export type { CacheBudget } from './room';
export type { CacheEntry, GcReport, UvmDraft, UvmUsage, VerifyReport } from './squirrel';
