/** Shows a transfer: one line that redraws itself on a terminal, nothing elsewhere, where the result line has to do. */
import type { TransferProgress } from '../hoard';
import { type TextStream, formatBytes } from './output';

const BAR_WIDTH = 21;
const REDRAW_MS = 250;

/** Draws until `stop` is called. */
export class TransferView {
  private latest: TransferProgress | undefined;
  private readonly startedAt = performance.now();
  private readonly timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly stream: TextStream,
    /** What is transferred, for people. */
    private readonly label: string,
  ) {
    if (stream.isTTY === true) {
      this.timer = setInterval(() => this.redraw(), REDRAW_MS);
      this.timer.unref();
    }
  }

  update(progress: TransferProgress): void {
    this.latest = progress;
  }

  /** Clears the line; what follows begins at its start. */
  stop(): void {
    clearInterval(this.timer);
    if (this.timer !== undefined) this.stream.write('\r\x1b[K');
  }

  private redraw(): void {
    if (this.latest === undefined) return;
    const { doneBytes, totalBytes, sentBytes } = this.latest;
    const filled = Math.round((doneBytes / Math.max(totalBytes, 1)) * BAR_WIDTH);
    const bar = `${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)}`;
    const rate = formatBytes(Math.round((sentBytes * 1000) / (performance.now() - this.startedAt)));
    const line = `${bar} ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)} · ${rate}/s · ${this.label}`;
    this.stream.write(`\r\x1b[K${line.slice(0, (this.stream.columns ?? 80) - 1)}`);
  }
}
