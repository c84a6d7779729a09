/** The host's `uptime` line for whoever asks, however many do: one process tells all of them. */
import { run } from './program';

const TIMEOUT_MS = 10_000;
/** The line counts minutes: a second does not matter to it. */
const MAX_AGE_MS = 1000;

/** Reads the line at most once a second. */
export class HostUptime {
  private last: { readonly line: Promise<string>; readonly atMs: number } | undefined;

  /** @param read runs the program; only tests replace it */
  constructor(private readonly read: () => Promise<string> = readUptime) {}

  /** One line as `uptime` prints it. */
  line(): Promise<string> {
    const now = performance.now();
    if (this.last === undefined || now - this.last.atMs > MAX_AGE_MS) {
      const reading = { line: this.read(), atMs: now };
      this.last = reading;
      reading.line.catch(() => {
        if (this.last === reading) this.last = undefined;
      });
    }
    return this.last.line;
  }
}

async function readUptime(): Promise<string> {
  return (await run('uptime', [], { timeoutMs: TIMEOUT_MS })).trim();
}
