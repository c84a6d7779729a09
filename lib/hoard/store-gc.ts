/**
 * Removes segments from the store that no entry needs. A segment has to be found unneeded twice, a grace period apart:
 * the first time it is written down as garbage, and whoever sends a µVM from then on does not rely on it. So what a host
 * sends at the same time is safe, as long as sending one µVM takes less than the grace period.
 */
import type { Logger } from 'pino';
import { describeError } from '../exceptions';
import type { Entry } from './entry';
import type { UvmStore } from './uvm-store';

/** See the top of the file; an upload is given up long before. */
export const GRACE_MS = 24 * 3600_000;

/** What a collection did. */
export interface StoreGcReport {
  readonly removedSegments: number;
  /** Unneeded ones that stay for now. */
  readonly garbageSegments: number;
}

/** Does nothing while an entry cannot be read: what it needs is not known then. */
export async function collectStore(
  store: UvmStore,
  logger: Logger,
  {
    graceMs = GRACE_MS,
    signal,
  }: { readonly graceMs?: number; readonly signal?: AbortSignal | undefined } = {},
): Promise<StoreGcReport> {
  const { found, nowMs } = await store.segments(signal);
  const before = await store.garbage(signal);
  const needed = new Set<string>();
  for (const uvm of await store.keys(undefined, signal)) {
    let entry: Entry | undefined;
    try {
      entry = await store.entry(uvm, signal);
    } catch (error) {
      signal?.throwIfAborted();
      logger.warn({ ...uvm }, `nothing is removed from the store: ${describeError(error)}`);
      return { removedSegments: 0, garbageSegments: before.size };
    }
    for (const file of entry?.files ?? []) for (const digest of file.segments) needed.add(digest);
  }
  const garbage = new Map<string, number>();
  const removed: string[] = [];
  for (const { digest, modifiedAtMs } of found) {
    if (needed.has(digest)) continue;
    const since = before.get(digest);
    // One that was sent again since then is somebody's work under way.
    if (since === undefined || modifiedAtMs > since) garbage.set(digest, nowMs);
    else if (nowMs - since < graceMs) garbage.set(digest, since);
    else removed.push(digest);
  }
  for (const digest of removed) await store.removeSegment(digest, signal);
  if (garbage.size > 0 || before.size > 0) await store.putGarbage(garbage, signal);
  return { removedSegments: removed.length, garbageSegments: garbage.size };
}
