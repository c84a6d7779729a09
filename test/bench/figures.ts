/** What every bench measures into: figures beside those of a peer of the same run, with medians and spread. */

/** What a figure has to reach, as a ratio to its peer or as a value of its own. */
export interface Goal {
  readonly of: 'ratio' | 'value';
  readonly bound: 'at most' | 'at least';
  readonly limit: number;
}

/** What was measured of one thing. */
export interface Measured {
  readonly name: string;
  /** `ms`, `calls/s`, `MiB`, `%`. */
  readonly unit: string;
  /** One value for each run, not empty. */
  readonly values: readonly number[];
  /** Who the peer is, in words, and what was measured of it in the same run. */
  readonly peer?: { readonly name: string; readonly values: readonly number[] };
  readonly goal?: Goal;
}

/** A figure as it is kept in files; the names are a contract with whoever reads them. */
export interface Figure {
  readonly name: string;
  /** Median of the runs. */
  readonly value: number;
  readonly unit: string;
  readonly goal: string | null;
  readonly peer: string | null;
  readonly peer_value: number | null;
  /** value / peer_value */
  readonly ratio: number | null;
  readonly runs: number;
  /** null without a goal. */
  readonly met: boolean | null;
  /** Lowest and highest of the runs. */
  readonly spread: readonly [number, number];
  readonly peer_spread: readonly [number, number] | null;
}

/** Half of the values are below it. @throws Error for no values */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value below which `share` (0 to 1) of the values are, interpolated. @throws Error for no values */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const position = (sorted.length - 1) * share;
  const low = sorted[Math.floor(position)];
  const high = sorted[Math.ceil(position)];
  if (low === undefined || high === undefined) throw new Error('nothing was measured');
  return low + (high - low) * (position - Math.floor(position));
}

/** Sums up the runs of one measure. */
export function figure(measured: Measured): Figure {
  const { name, unit, values, peer, goal } = measured;
  const value = round(median(values));
  const peerValue = peer === undefined ? null : round(median(peer.values));
  const ratio = peerValue === null || peerValue === 0 ? null : round(value / peerValue);
  return {
    name,
    value,
    unit,
    goal: goal === undefined ? null : describeGoal(goal, unit),
    peer: peer?.name ?? null,
    peer_value: peerValue,
    ratio,
    runs: values.length,
    met: goal === undefined ? null : isMet(goal, goal.of === 'ratio' ? ratio : value),
    spread: spread(values),
    peer_spread: peer === undefined ? null : spread(peer.values),
  };
}

function isMet({ bound, limit }: Goal, reached: number | null): boolean | null {
  if (reached === null) return null;
  return bound === 'at most' ? reached <= limit : reached >= limit;
}

function describeGoal({ of, bound, limit }: Goal, unit: string): string {
  return of === 'ratio' ? `${bound} ${limit} of the peer` : `${bound} ${limit} ${unit}`;
}

function spread(values: readonly number[]): [number, number] {
  return [round(Math.min(...values)), round(Math.max(...values))];
}

/** Four significant digits: more is noise. */
function round(value: number): number {
  return Number(value.toPrecision(4));
}
