/** Has the worker threads make a pack: its segments side by side, then the file. */
import { allOrFirstFailure } from '../all-or-first-failure';
import type { PlannedPack } from './store';
import type { WorkerPool } from './worker-pool';

/**
 * Makes a pack, synced but under a name of the caller's. Returns the name it should have, and its size.
 * @param onProgress told which share is done
 */
export async function makePack(
  workers: WorkerPool,
  { segments, bases, pages, hashes }: PlannedPack,
  path: string,
  onProgress?: (share: number) => void,
): Promise<{ id: string; bytes: number }> {
  let done = 0;
  const encoding = segments.map(async (segment) => {
    const encoded = await workers.run('encode', segment);
    done += 1;
    onProgress?.(done / segments.length);
    return encoded;
  });
  // Nobody still reads the sources when this rejects.
  const encoded = await allOrFirstFailure(encoding);
  return await workers.run('assemble', { path, segments: encoded, bases, pages, hashes });
}
