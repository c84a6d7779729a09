/**
 * Periodic work: each task runs by itself, never twice at once, and a failing round does not end the rounds.
 */
import { describeError } from '../exceptions';
import type { Logger } from '../log';

/** One thing done again and again. */
export interface PeriodicTask {
  readonly name: string;
  readonly intervalMs: number;
  readonly run: () => Promise<void>;
}

/** Runs tasks until stopped. */
export class Periodic {
  private readonly timers = new Map<string, NodeJS.Timeout>();
  private readonly rounds = new Set<Promise<void>>();
  private stopped = false;

  constructor(private readonly logger: Logger) {}

  /** The first round comes one interval from now; the next one an interval after a round's start, or its end if later. */
  start(task: PeriodicTask): void {
    this.schedule(task, task.intervalMs);
  }

  /** No new round starts; resolves when those under way have ended. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const timer of this.timers.values()) clearTimeout(timer);
    await Promise.all(this.rounds);
  }

  private schedule(task: PeriodicTask, delayMs: number): void {
    if (this.stopped) return;
    this.timers.set(
      task.name,
      setTimeout(() => {
        const round = this.round(task);
        this.rounds.add(round);
        void round.finally(() => this.rounds.delete(round));
      }, delayMs),
    );
  }

  private async round(task: PeriodicTask): Promise<void> {
    const startedAt = Date.now();
    try {
      await task.run();
    } catch (error) {
      this.logger.warn({ task: task.name }, `periodic task failed: ${describeError(error)}`);
    }
    this.schedule(task, Math.max(0, task.intervalMs - (Date.now() - startedAt)));
  }
}
