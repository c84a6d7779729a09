/** Waits for a condition that nothing announces, by asking again and again until a deadline. */
import { setTimeout as delay } from 'node:timers/promises';

const FIRST_PAUSE_MS = 1;
const LAST_PAUSE_MS = 50;

/** The condition did not come true in time. */
export class WaitTimeout extends Error {
  override readonly name = 'WaitTimeout';
}

/**
 * @param what is waited for, to complete "waited ... ms for"
 * @param holds what `condition` throws ends the wait
 */
export async function until(
  what: string,
  timeoutMs: number,
  signal: AbortSignal,
  holds: () => Promise<boolean>,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  for (let pauseMs = FIRST_PAUSE_MS; !(await holds()); pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS)) {
    signal.throwIfAborted();
    if (performance.now() >= endMs) throw new WaitTimeout(`waited ${timeoutMs} ms for ${what}`);
    await delay(pauseMs);
  }
}
