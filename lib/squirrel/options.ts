/** Where the cache is, what it keeps within, and who hears of it. */
import { join } from 'node:path';
import type { Logger } from 'pino';

export interface SquirrelOptions {
  /** `[prebake] cache_directory`, absolute. */
  readonly directory: string;
  /** Where the base files of images are: `_base` in `[DEFAULT] instances_path`. */
  readonly imagesDirectory: string;
  readonly logger: Logger;
}

/** What of the configuration concerns the cache; `Config` has it. */
export interface CacheConfig {
  readonly default: { readonly instancesPath: string };
  readonly prebake: { readonly cacheDirectory: string };
}

/** The options of this host's cache. */
export function squirrelOptions(config: CacheConfig, logger: Logger): SquirrelOptions {
  return {
    directory: config.prebake.cacheDirectory,
    imagesDirectory: join(config.default.instancesPath, '_base'),
    logger,
  };
}
