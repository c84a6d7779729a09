/** Asks everything the service depends on whether it answers, all at once, each with a deadline. */
import { describeError } from '../exceptions';
import { redact } from '../log';

/** Resolves when the dependency answers; rejects with the reason when it does not. */
export type ReadinessCheck = () => Promise<void>;

export type CheckResult = { readonly state: 'up' } | { readonly state: 'down'; readonly reason: string };

/** The answer of `/readyz`. */
export interface ReadinessReport {
  readonly ready: boolean;
  readonly checks: Readonly<Record<string, CheckResult>>;
}

async function runCheck(check: ReadinessCheck, timeoutMs: number): Promise<CheckResult> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([check(), deadline]);
    return { state: 'up' };
  } catch (error) {
    return { state: 'down', reason: redact(describeError(error)) };
  } finally {
    clearTimeout(timer);
  }
}

/** Runs every check; never rejects. */
export async function checkReadiness(
  checks: ReadonlyMap<string, ReadinessCheck>,
  timeoutMs: number,
): Promise<ReadinessReport> {
  const results = await Promise.all(
    [...checks].map(async ([name, check]) => [name, await runCheck(check, timeoutMs)] as const),
  );
  return {
    ready: results.every(([, result]) => result.state === 'up'),
    checks: Object.fromEntries(results),
  };
}
