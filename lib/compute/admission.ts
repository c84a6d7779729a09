/**
 * Which server of a storm is built next, and how many at once.
 *
 * A build takes a place until its server is active: `max_concurrent_builds`, as in Nova. A clone's guest is at work beyond
 * that, until it has become its server. However many builds Nova is allowed, no more guests are at that at a time than the
 * host's processors and memory can serve: more would only take turns at them, and the first would be ready hardly before
 * the last. Images take turns: fifty servers of one do not keep a server of another waiting.
 */

/** What the host can bring up at once. */
export interface AdmissionLimits {
  /** Builds between their request and an active server. */
  readonly builds: number;
  /** Guests that are not ready yet. */
  readonly guests: number;
  /** Memory that one guest may write to until it is ready. */
  readonly guestBytes: number;
  /** Memory that the host can give away now. */
  readonly availableBytes: () => number;
}

/** A server that is being built. Both are called, in any order; a second call does nothing. */
export interface Admitted {
  /** It is active, or will never be. */
  readonly built: () => void;
  /** Its guest has done its work, or there is none. */
  readonly settled: () => void;
}

interface Waiter {
  readonly admit: (admitted: Admitted) => void;
}

/** Lets builds in. */
export class Admission {
  private builds = 0;
  private guests = 0;
  /** By image, in the order of their turns. */
  private readonly waiting = new Map<string, Waiter[]>();

  constructor(private readonly limits: AdmissionLimits) {}

  /** Waits for a turn. One whose signal fires does not wait any longer, and takes no place. */
  async enter(imageId: string, signal: AbortSignal): Promise<Admitted> {
    return await new Promise((resolve) => {
      const waiter: Waiter = {
        admit: (admitted) => {
          signal.removeEventListener('abort', onAbort);
          resolve(admitted);
        },
      };
      const onAbort = (): void => {
        this.leave(imageId, waiter);
        waiter.admit({ built: () => undefined, settled: () => undefined });
      };
      if (signal.aborted) {
        onAbort();
        return;
      }
      signal.addEventListener('abort', onAbort, { once: true });
      const others = this.waiting.get(imageId);
      if (others === undefined) this.waiting.set(imageId, [waiter]);
      else others.push(waiter);
      this.letIn();
    });
  }

  private letIn(): void {
    for (;;) {
      const next = this.waiting.entries().next();
      if (next.done === true || !this.hasRoom()) return;
      const [imageId, [waiter]] = next.value;
      if (waiter === undefined) return;
      this.leave(imageId, waiter);
      // The image's next one comes after one of each other image.
      const others = this.waiting.get(imageId);
      if (others !== undefined) {
        this.waiting.delete(imageId);
        this.waiting.set(imageId, others);
      }
      this.builds += 1;
      this.guests += 1;
      waiter.admit({
        built: once(() => {
          this.builds -= 1;
          this.letIn();
        }),
        settled: once(() => {
          this.guests -= 1;
          this.letIn();
        }),
      });
    }
  }

  /** Where nothing is under way there is nothing to wait for: the scheduler has found that the server fits. */
  private hasRoom(): boolean {
    const { builds, guests, guestBytes, availableBytes } = this.limits;
    if (this.builds >= builds || this.guests >= guests) return false;
    return this.guests === 0 || availableBytes() >= (this.guests + 1) * guestBytes;
  }

  private leave(imageId: string, waiter: Waiter): void {
    const others = this.waiting.get(imageId)?.filter((other) => other !== waiter) ?? [];
    if (others.length > 0) this.waiting.set(imageId, others);
    else this.waiting.delete(imageId);
  }
}

function once(work: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    work();
  };
}
