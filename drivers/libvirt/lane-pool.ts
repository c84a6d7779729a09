/**
 * Hands out lanes: a bounded number of connections, opened when needed, one borrower each, with a deadline on every use.
 *
 * A native call cannot be cancelled. One that overruns its deadline is given up towards its caller, but its lane and its
 * thread stay taken, and counted, until it returns.
 */
import type { Logger } from 'pino';
import { HypervisorUnavailable } from '../../lib/exceptions';
import { Lane } from './lane';

/** Connections, and therefore threads, in use at most. */
const MAX_LANES = 8;

/** A bounded set of lanes to one daemon. */
export class LanePool {
  private readonly idle: Lane[] = [];
  private readonly waiting: (() => void)[] = [];
  private taken = 0;
  private overdue = 0;
  private generation = 0;

  constructor(
    private readonly uri: string,
    private readonly logger: Logger,
  ) {}

  /** Calls that overran their deadline and still hold a thread. */
  get overdueCalls(): number {
    return this.overdue;
  }

  /** Runs `work` on a lane; rejects with HypervisorUnavailable when it has not settled within `deadlineMs`. */
  async use<T>(call: string, deadlineMs: number, work: (lane: Lane) => Promise<T>): Promise<T> {
    let late = false;
    const startMs = performance.now();
    const run = (async () => {
      const lane = await this.take();
      let usable = false;
      try {
        // The caller was told that it failed: do not do it behind its back.
        if (isTrue(late)) throw new HypervisorUnavailable(`${call} was given up before it began`);
        const result = await work(lane);
        usable = true;
        return result;
      } catch (error) {
        usable = !(error instanceof HypervisorUnavailable);
        throw error;
      } finally {
        this.give(lane, usable);
      }
    })();
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        late = true;
        this.overdue += 1;
        this.logger.warn({ call, deadlineMs, overdueCalls: this.overdue }, 'libvirtd does not answer');
        reject(new HypervisorUnavailable(`libvirtd did not answer ${call} within ${deadlineMs} ms`));
      }, deadlineMs);
    });
    const settled = (): void => {
      clearTimeout(timer);
      if (!late) return;
      this.overdue -= 1;
      this.logger.info(
        { call, tookMs: Math.round(performance.now() - startMs) },
        'overdue libvirt call ended',
      );
    };
    run.then(settled, settled);
    return await Promise.race([run, deadline]);
  }

  /** Forgets all lanes: the daemon they lead to is gone. Those in use go when they are given back. */
  async reset(): Promise<void> {
    this.generation += 1;
    await Promise.allSettled(this.idle.splice(0).map((lane) => lane.close()));
  }

  private async take(): Promise<Lane> {
    while (this.taken >= MAX_LANES) await new Promise<void>((resolve) => this.waiting.push(resolve));
    this.taken += 1;
    try {
      for (let lane = this.idle.pop(); lane !== undefined; lane = this.idle.pop()) {
        if (await lane.isAlive()) return lane;
        await lane.close();
      }
      return await Lane.open(this.uri, this.generation);
    } catch (error) {
      this.leave();
      throw error;
    }
  }

  private give(lane: Lane, usable: boolean): void {
    if (usable && lane.generation === this.generation) this.idle.push(lane);
    else lane.close().catch((error: unknown) => this.logger.debug({ err: error }, 'closing a lane failed'));
    this.leave();
  }

  private leave(): void {
    this.taken -= 1;
    this.waiting.shift()?.();
  }
}

/** Keeps the compiler from taking a variable that changes during an await for constant. */
function isTrue(value: boolean): boolean {
  return value;
}
