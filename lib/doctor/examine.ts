/** Runs checks side by side, each with a deadline and after those it needs, and puts their findings together. */
import { describeError } from '../exceptions';
import { redact } from '../log';
import { type Check, type Finding, type FindingState, fail, skip } from './check';

const TIMEOUT_MS = 15_000;

/** A finding with the name of its check. */
export interface Result extends Finding {
  readonly name: string;
  readonly elapsedMs: number;
}

/** Everything that was found, in the order of the checks. */
export interface DoctorReport {
  /** Whether no check failed; warnings do not count. */
  readonly healthy: boolean;
  readonly counts: Readonly<Record<FindingState, number>>;
  readonly checks: readonly Result[];
}

/** Runs all checks; never rejects. */
export async function examine(checks: readonly Check[], signal: AbortSignal): Promise<DoctorReport> {
  const results = new Map<string, Promise<Result>>();
  for (const check of checks) results.set(check.name, runAfterNeeds(check, results, signal));
  const findings = await Promise.all(results.values());
  const counts: Record<FindingState, number> = { ok: 0, warn: 0, fail: 0, skip: 0 };
  for (const { state } of findings) counts[state] += 1;
  return { healthy: counts.fail === 0, counts, checks: findings };
}

/** Needs come earlier in the list than who needs them. */
async function runAfterNeeds(
  check: Check,
  earlier: ReadonlyMap<string, Promise<Result>>,
  signal: AbortSignal,
): Promise<Result> {
  const needed: Result[] = [];
  for (const name of check.needs ?? []) {
    const result = await earlier.get(name);
    if (result !== undefined) needed.push(result);
  }
  const missing = needed.find(({ state }) => state === 'fail' || state === 'skip');
  const begin = performance.now();
  const finding =
    missing === undefined ? await runInTime(check, signal) : skip(`needs ${missing.name}, see there`);
  return {
    name: check.name,
    ...finding,
    detail: redact(finding.detail),
    elapsedMs: Math.round(performance.now() - begin),
  };
}

async function runInTime(check: Check, signal: AbortSignal): Promise<Finding> {
  const timeoutMs = check.timeoutMs ?? TIMEOUT_MS;
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  const either = AbortSignal.any([signal, deadline.signal]);
  let giveUp = (): void => undefined;
  const late = new Promise<never>((_resolve, reject) => {
    giveUp = () => reject(either.reason instanceof Error ? either.reason : new Error('interrupted'));
  });
  either.addEventListener('abort', giveUp, { once: true });
  try {
    either.throwIfAborted();
    return await Promise.race([check.run(either), late]);
  } catch (error) {
    return fail(describeError(error), check.fix);
  } finally {
    clearTimeout(timer);
    either.removeEventListener('abort', giveUp);
  }
}
