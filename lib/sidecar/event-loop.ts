/**
 * Sees every turn of the event loop that took long, in which nothing else could run. It looks once in each turn, and never
 * causes one: a service that has nothing to do is not woken to find out that nothing was in its way.
 */
import { performance } from 'node:perf_hooks';

/** Nothing is to hold the loop for longer. */
export const BLOCKED_MS = 50;

/** Time that passed, and how much of it the loop has been waiting for something to do; milliseconds. */
export interface LoopClock {
  nowMs(): number;
  idleMs(): number;
}

const CLOCK: LoopClock = {
  nowMs: () => performance.now(),
  idleMs: () => performance.nodeTiming.idleTime,
};

/**
 * Calls `report` after every turn that took BLOCKED_MS or more, with the milliseconds it took.
 *
 * @param clock only tests replace it
 * @returns ends the watch
 */
export function watchEventLoop(report: (durationMs: number) => void, clock: LoopClock = CLOCK): () => void {
  let lastMs = clock.nowMs();
  let lastIdleMs = clock.idleMs();
  let next: NodeJS.Immediate;
  const look = (): void => {
    const nowMs = clock.nowMs();
    const idleMs = clock.idleMs();
    const tookMs = nowMs - lastMs - (idleMs - lastIdleMs);
    lastMs = nowMs;
    lastIdleMs = idleMs;
    again();
    if (tookMs >= BLOCKED_MS) report(tookMs);
  };
  const again = (): void => {
    // Without a reference the loop does not turn for its sake.
    next = setImmediate(look).unref();
  };
  again();
  return () => clearImmediate(next);
}
