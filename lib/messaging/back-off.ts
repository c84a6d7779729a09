/** How long to wait before the next attempt: exponential, bounded, with jitter so that hosts do not come back as one. */

export const BACK_OFF_FIRST_MS = 250;
export const BACK_OFF_MAX_MS = 30_000;

/**
 * @param attempt number of attempts that failed before, from 0
 * @param random in [0, 1)
 * @returns milliseconds between half of and the full `first * 2^attempt`, at most BACK_OFF_MAX_MS
 */
export function backOffMs(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(BACK_OFF_MAX_MS, BACK_OFF_FIRST_MS * 2 ** Math.min(attempt, 20));
  return Math.round(ceiling * (0.5 + random() / 2));
}
