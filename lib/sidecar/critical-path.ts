/** Which phases a boot waited for: those whose shortening would have made it shorter. */
import type { Span } from '../timeline';

/** Phases that follow each other directly may overlap by the time it takes to note them down. */
const TOLERANCE_MS = 1;

/**
 * Goes back from the end: what ended last before now was waited for, and so on from where that began. Of phases that end
 * together the shortest counts, which is the innermost of nested ones.
 * @returns positions in `spans`, in the order of time
 */
export function criticalPath(spans: readonly Span[], endMs: number): number[] {
  const path: number[] = [];
  for (let now = endMs; ;) {
    const before = spans
      .map((span, index) => ({ span, index }))
      .filter(({ span, index }) => span.endMs <= now + TOLERANCE_MS && !path.includes(index));
    const lastEndMs = Math.max(...before.map(({ span }) => span.endMs));
    const candidates = before
      .filter(({ span }) => span.endMs >= lastEndMs - TOLERANCE_MS)
      .sort((a, b) => b.span.startMs - a.span.startMs);
    const [next] = candidates;
    if (next === undefined) return path.reverse();
    path.push(next.index);
    now = Math.min(now, next.span.startMs);
  }
}
