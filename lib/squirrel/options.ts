/** Where the cache is, what it keeps within, and who hears of it. */
import { join } from 'node:path';
import type { Logger } from 'pino';

/** What the cache keeps within. */
export interface CacheLimits {
  /** For written-out µVMs; may be exceeded while all of them are in use. */
  readonly materialisedBytes: number;
  /** Of its file system, that the cache leaves to the host. */
  readonly reserveBytes: number;
}

/** So much stays free for the disks of running servers, which stop when they cannot be written to. */
const RESERVE_BYTES = 1024 ** 3;

export interface SquirrelOptions {
  /** `[prebake] cache_directory`, absolute. */
  readonly directory: string;
  /** Where the base files of images are: `_base` in `[DEFAULT] instances_path`. */
  readonly imagesDirectory: string;
  readonly limits: CacheLimits;
  readonly logger: Logger;
}

/** What of the configuration concerns the cache; `Config` has it. */
export interface CacheConfig {
  readonly default: { readonly instancesPath: string };
  readonly prebake: { readonly cacheDirectory: string; readonly materialisedBudgetMb: number };
}

/** The options of this host's cache. */
export function squirrelOptions(config: CacheConfig, logger: Logger): SquirrelOptions {
  return {
    directory: config.prebake.cacheDirectory,
    imagesDirectory: join(config.default.instancesPath, '_base'),
    limits: {
      // Can change while the service runs.
      get materialisedBytes() {
        return config.prebake.materialisedBudgetMb * 1024 ** 2;
      },
      reserveBytes: RESERVE_BYTES,
    },
    logger,
  };
}
