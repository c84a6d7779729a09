/** Shows a bake: one line that redraws itself on a terminal, one line per step elsewhere. */
import { BAKE_PHASES, type BakeProgress } from '../bake';
import { type TextStream, formatMs } from './output';

type Phase = BakeProgress['phase'];

const WHAT: Readonly<Record<Phase, string>> = {
  queue: 'waiting for another bake',
  boot: 'booting the image',
  seal: 'taking its identity out',
  capture: 'capturing memory and devices',
  store: 'storing pages',
  prove: 'proving it with a clone',
};
const BAR_WIDTH = 21;
const REDRAW_MS = 250;

/** Draws progress until `stop` is called. */
export class BakeProgressView {
  private latest: { readonly progress: BakeProgress; readonly atMs: number } | undefined;
  private printedPhase: Phase | undefined;
  private readonly timer: NodeJS.Timeout | undefined;

  constructor(private readonly stream: TextStream) {
    if (stream.isTTY === true) {
      this.timer = setInterval(() => this.redraw(), REDRAW_MS);
      this.timer.unref();
    }
  }

  update(progress: BakeProgress): void {
    this.latest = { progress, atMs: performance.now() };
    if (this.timer !== undefined) {
      this.redraw();
    } else if (progress.phase !== this.printedPhase && progress.phase !== 'queue') {
      this.printedPhase = progress.phase;
      const step = `${phaseIndex(progress.phase) + 1}/${BAKE_PHASES.length}`;
      this.stream.write(`[${step}] ${WHAT[progress.phase]} (after ${formatMs(progress.elapsedMs)})\n`);
    }
  }

  /** Clears the line; what follows begins at its start. */
  stop(): void {
    clearInterval(this.timer);
    if (this.timer !== undefined) this.stream.write('\r\x1b[K');
  }

  private redraw(): void {
    if (this.latest === undefined) return;
    const { progress, atMs } = this.latest;
    const elapsed = formatMs(progress.elapsedMs + performance.now() - atMs);
    const percent = progress.percent === undefined ? '' : ` ${Math.round(progress.percent)} %`;
    const line = `${progressBar(progress)} ${WHAT[progress.phase]}${percent} · ${elapsed}`;
    this.stream.write(`\r\x1b[K${line.slice(0, (this.stream.columns ?? 80) - 1)}`);
  }
}

/** -1 while it waits its turn. */
function phaseIndex(phase: Phase): number {
  return BAKE_PHASES.findIndex((known) => known === phase);
}

/** Each step has the same width, since how long a boot takes is not known beforehand. */
function progressBar(progress: BakeProgress): string {
  const done = Math.max(0, phaseIndex(progress.phase)) + (progress.percent ?? 0) / 100;
  const filled = Math.round((done / BAKE_PHASES.length) * BAR_WIDTH);
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)}`;
}
