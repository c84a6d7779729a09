/** Keeps a transfer to so many bytes a second, measured over its whole length; short bursts are let through. */
import { setTimeout as delay } from 'node:timers/promises';

/** What may be ahead of the rate: an idle second does not count for later. */
const BURST_MS = 250;

/** One direction of transfers of this host. */
export class Pace {
  /** When the bytes let through so far would have taken their time. */
  private dueMs = 0;

  /** @param bytesPerS 0 sets no limit */
  constructor(private readonly bytesPerS: number) {}

  /** Resolves when so many more bytes may pass. @throws the signal's reason */
  async pass(bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.bytesPerS === 0) return;
    const nowMs = performance.now();
    this.dueMs = Math.max(this.dueMs, nowMs - BURST_MS) + (bytes / this.bytesPerS) * 1000;
    const waitMs = this.dueMs - nowMs;
    if (waitMs <= 0) return;
    try {
      await delay(waitMs, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  }
}
