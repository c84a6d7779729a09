/**
 * Database writes in order, off the critical path.
 *
 * Nova's state machine wants its saves one after the other (each names the task_state it expects to find), but a boot
 * need not wait for each answer before it goes on. A chain runs them in order; the first failure ends it, is reported
 * through `onFailure` at once, and comes out of `settled()`.
 */

/** An ordered queue of writes that stops at the first failure. */
export class SaveChain {
  private tail: Promise<void> = Promise.resolve();
  private failure: { readonly error: unknown } | null = null;
  private stopped = false;

  constructor(private readonly onFailure: (error: unknown) => void) {}

  /** Runs `write` after all earlier ones; skipped when one of them failed. */
  push(write: () => Promise<unknown>): void {
    this.tail = this.tail.then(async () => {
      if (this.failure !== null || this.stopped) return;
      try {
        await write();
      } catch (error) {
        this.failure = { error };
        this.onFailure(error);
      }
    });
  }

  /** Drops the writes that have not begun, now and later; resolves when none is under way. */
  async stop(): Promise<void> {
    this.stopped = true;
    await this.tail;
  }

  /** Resolves when all writes pushed so far are done; rejects with the error of the one that failed. */
  async settled(): Promise<void> {
    await this.tail;
    if (this.failure !== null) throw this.failure.error;
  }
}
