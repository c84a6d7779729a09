/** The cache of µVMs of this host: deduplicated, compressed, verified; see docs/formats.md. */
export { CacheBusy, DamagedFile, SquirrelError, UnknownUvm, UnsupportedFormat } from './errors';
export type { StoredFile, UvmDescription, UvmFileName, UvmManifest } from './manifest';
export { Squirrel } from './squirrel';
export type { CacheEntry, SquirrelOptions, UvmDraft, VerifyReport } from './squirrel';
