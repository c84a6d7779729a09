/** The cache of µVMs: which of them are offered, and what is wrong with the others. Reads manifests, not pages. */
import type { BakeFailure } from '../bake';
import type { CacheEntry } from '../squirrel';
import { type Check, fail, ok, warn } from './check';
import type { Machine } from './machine';

const SHORT_KEY = 12;
/** Of images that could not be baked. */
const SHOWN_FAILURES = 3;

/** The part of the cache that is looked at. */
export interface ListedCache {
  list(): Promise<readonly CacheEntry[]>;
  /** Images without a µVM because their bake failed. */
  failures(): Promise<readonly BakeFailure[]>;
  close(): Promise<void>;
}

export function cacheCheck(machine: Machine, directory: string, open: () => Promise<ListedCache>): Check {
  return {
    name: 'cache',
    fix: `see that ${directory} can be written to`,
    run: async () => {
      // Opening makes the directory, and a doctor changes nothing.
      if ((await machine.list(directory)).length === 0) {
        return ok(`nothing in ${directory} yet: servers boot cold until their image is baked`);
      }
      const cache = await open();
      try {
        return judge(await cache.list(), await cache.failures(), directory);
      } finally {
        await cache.close();
      }
    },
  };
}

function judge(
  entries: readonly CacheEntry[],
  failures: readonly BakeFailure[],
  directory: string,
): ReturnType<typeof ok> {
  if (entries.length === 0 && failures.length === 0)
    return ok(`no µVM in ${directory} yet: servers boot cold until their image is baked`);
  const offered = entries.filter((entry) => entry.state === 'ok').length;
  const detail = `${offered} of ${entries.length} µVMs in ${directory} are offered`;
  const say = (entry: CacheEntry): string =>
    entry.state === 'ok' ? '' : `${entry.key.slice(0, SHORT_KEY)} is ${entry.state}: ${entry.reason}`;
  const unreadable = entries.filter((entry) => entry.state === 'unreadable');
  const [broken] = unreadable;
  if (broken !== undefined) {
    return fail(
      `${detail}; ${unreadable.map(say).join('; ')}`,
      `prebake cache rm ${broken.key.slice(0, SHORT_KEY)}, then bake its image again; check the disk`,
    );
  }
  const aside = entries.filter((entry) => entry.state === 'quarantined');
  const [first] = aside;
  if (first !== undefined) {
    return warn(`${detail}; ${aside.map(say).join('; ')}`, `prebake bake ${first.manifest.image.id}`);
  }
  const [failed] = failures;
  if (failed === undefined) return ok(`${detail} (prebake cache verify reads every page)`);
  const reasons = failures
    .slice(0, SHOWN_FAILURES)
    .map(({ imageId, reason }) => `image ${imageId} boots cold: ${reason}`);
  const more = failures.length - reasons.length;
  return warn(
    [detail, ...reasons, ...(more > 0 ? [`and ${more} more images`] : [])].join('; '),
    `see that image ${failed.imageId} fits and run prebake bake ${failed.imageId}, or set its property prebake=never`,
  );
}
