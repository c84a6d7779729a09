/** Draws where the milliseconds of a boot went: one row per phase, in the order they began. */
import type { Mark, Span } from '../timeline';
import { formatMs, printable } from './output';

interface Drawn {
  readonly spans: readonly Span[];
  readonly marks: readonly Mark[];
}

/**
 * Lines of text, `width` columns at most.
 * @example
 * ```
 * network        412 ms  ███████████
 * restore        518 ms    ██████████████
 * = active       950 ms  ─────────────────────────│
 * ```
 */
export function waterfall(boot: Drawn, width: number): string[] {
  const names = [...boot.spans, ...boot.marks].map((item) => printable(item.name).length + 2);
  const nameWidth = Math.max(8, ...names);
  const timeWidth = 10;
  const barWidth = Math.max(10, width - nameWidth - timeWidth - 4);
  const endMs = Math.max(1, ...boot.spans.map((span) => span.endMs), ...boot.marks.map((mark) => mark.atMs));
  const column = (ms: number): number =>
    Math.min(barWidth - 1, Math.max(0, Math.floor((ms / endMs) * barWidth)));
  const row = (name: string, ms: number, bar: string): string =>
    `${printable(name).padEnd(nameWidth)}${formatMs(ms).padStart(timeWidth)}  ${bar}`.trimEnd();
  return [
    ...[...boot.spans]
      .sort((a, b) => a.startMs - b.startMs)
      .map((span) => {
        const from = column(span.startMs);
        const length = Math.max(1, column(span.endMs) - from + 1);
        return row(span.name, span.endMs - span.startMs, ' '.repeat(from) + '█'.repeat(length));
      }),
    ...[...boot.marks]
      .sort((a, b) => a.atMs - b.atMs)
      .map((mark) => row(`= ${mark.name}`, mark.atMs, `${'─'.repeat(column(mark.atMs))}│`)),
  ];
}
