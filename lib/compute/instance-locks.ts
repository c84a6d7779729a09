/**
 * One operation at a time per server, in the order they came, as nova-compute does with `utils.synchronized(uuid)`.
 *
 * A delete must not wait for a build to finish in its own time: the holder of a lock may leave an AbortController with
 * it, which `abort` fires.
 */

/** Locks by instance uuid. */
export class InstanceLocks {
  private readonly tails = new Map<string, Promise<void>>();
  private readonly aborts = new Map<string, AbortController>();

  /** Runs `work` once all earlier work on `uuid` has ended. The signal fires when `abort(uuid)` is called meanwhile. */
  async run<T>(uuid: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const before = this.tails.get(uuid) ?? Promise.resolve();
    let release: () => void = () => undefined;
    const tail = new Promise<void>((resolve) => (release = resolve));
    this.tails.set(uuid, tail);
    await before;
    const controller = new AbortController();
    this.aborts.set(uuid, controller);
    try {
      return await work(controller.signal);
    } finally {
      this.aborts.delete(uuid);
      if (this.tails.get(uuid) === tail) this.tails.delete(uuid);
      release();
    }
  }

  /** Tells the work that holds the lock of `uuid` to give up, if any does. */
  abort(uuid: string, reason: Error): void {
    this.aborts.get(uuid)?.abort(reason);
  }

  /** Whether some operation on `uuid` is under way or waiting. */
  busy(uuid: string): boolean {
    return this.tails.has(uuid);
  }

  /** Servers that have operations under way or waiting. */
  get holders(): readonly string[] {
    return [...this.tails.keys()];
  }

  /** Resolves when nothing that was under way at the time of the call is any more. */
  async idle(): Promise<void> {
    await Promise.all(this.tails.values());
  }
}
