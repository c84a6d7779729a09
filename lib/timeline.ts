/**
 * Where the milliseconds of one boot or bake went: named, possibly overlapping spans on one clock.
 *
 * Written by whoever does the work, read by the metrics, the sidecar and the demo.
 */
import { performance } from 'node:perf_hooks';

/** One phase of the work; `startMs` and `endMs` count from the start of the timeline. */
export interface Span {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** A point in time worth a name, such as `running` or `ready`. */
export interface Mark {
  readonly name: string;
  readonly atMs: number;
}

/** Spans and marks of one piece of work, counted from its construction (or a given earlier instant). */
export class Timeline {
  readonly startedAt: Date;
  private readonly originMs: number;
  private readonly recordedSpans: Span[] = [];
  private readonly recordedMarks: Mark[] = [];

  /** @param ageMs how long ago the work began, for work that began before this process saw it */
  constructor(ageMs = 0) {
    this.originMs = performance.now() - ageMs;
    this.startedAt = new Date(Date.now() - ageMs);
  }

  /** Milliseconds since the start. */
  elapsedMs(): number {
    return performance.now() - this.originMs;
  }

  /** Runs `work` and records its duration under `name`, whether it succeeds or not. */
  async phase<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startMs = this.elapsedMs();
    try {
      return await work();
    } finally {
      this.recordedSpans.push({ name, startMs, endMs: this.elapsedMs() });
    }
  }

  /** Records that `name` happened now; the first time counts. */
  mark(name: string): void {
    if (!this.recordedMarks.some((mark) => mark.name === name)) {
      this.recordedMarks.push({ name, atMs: this.elapsedMs() });
    }
  }

  get spans(): readonly Span[] {
    return this.recordedSpans;
  }

  get marks(): readonly Mark[] {
    return this.recordedMarks;
  }
}
