/** Waiting for conditions that announce themselves to nobody; everything else is awaited by its event. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Repeats `probe` until it neither rejects nor answers false; fails with its last error after `timeoutMs`. */
export async function until<T>(what: string, probe: () => Promise<T> | T, timeoutMs = 30_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    let cause: unknown;
    try {
      const value = await probe();
      if (value !== false) return value;
    } catch (error) {
      cause = error;
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`, { cause });
    await sleep(50);
  }
}
