/**
 * One writer at a time on a directory, among processes: flock(2), which the kernel releases whatever becomes of the
 * holder. Node has no binding for it.
 */
import { open } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';
import type koffiModule from 'koffi' with { 'resolution-mode': 'import' };
import { CacheBusy } from './errors';

// koffi declares its types for ES modules only, though it ships a CommonJS build.
const koffi = createRequire(__filename)('koffi') as typeof koffiModule;

const LOCK_EXCLUSIVE_NONBLOCKING = 2 | 4;
const RETRY_MS = 100;

let flock: ((fd: number, operation: number) => number) | undefined;

/** Takes the lock if it is free right now. */
function tryFlock(fd: number): boolean {
  flock ??= koffi.load('libc.so.6').func('int flock(int fd, int operation)') as (
    fd: number,
    operation: number,
  ) => number;
  return flock(fd, LOCK_EXCLUSIVE_NONBLOCKING) === 0;
}

/**
 * Runs `work` while holding the lock file.
 * @param waitMs how long to wait for another holder; flock has no event to wait for, so it is asked again and again
 * @throws CacheBusy when the time is over
 */
export async function withLock<T>(path: string, waitMs: number, work: () => Promise<T>): Promise<T> {
  const handle = await open(path, 'a', 0o644);
  try {
    const deadline = Date.now() + waitMs;
    while (!tryFlock(handle.fd)) {
      if (Date.now() >= deadline) throw new CacheBusy(`another process is changing the cache (${path})`);
      await delay(RETRY_MS);
    }
    return await work();
  } finally {
    await handle.close();
  }
}
