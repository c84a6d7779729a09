/** What `tempest run` says about its tests, line by line, and how that compares with a stock nova-compute's results. */

/** The end of one test, or of a class that could not be set up. */
export interface TestOutcome {
  /** `tempest.api....Class.test_name`, or `setUpClass (tempest....Class)` */
  readonly test: string;
  readonly result: 'passed' | 'failed' | 'skipped';
  readonly durationS: number | null;
  /** Why it was skipped; empty for the others. */
  readonly reason: string;
}

const LINE = /^\{\d+\} (.+?)(?: \[([\d.]+)s\])? \.\.\. (ok|FAILED|SKIPPED)(?:: (.*))?$/;
const RESULTS = { ok: 'passed', FAILED: 'failed', SKIPPED: 'skipped' } as const;

/** @returns what a line of tempest's console says, null when it is about something else */
export function parseOutcome(line: string): TestOutcome | null {
  const [, test, seconds, word, reason] = LINE.exec(line.trimEnd()) ?? [];
  if (test === undefined || word === undefined) return null;
  return {
    test: test.replace(/\[.*\]$/, ''),
    result: RESULTS[word as keyof typeof RESULTS],
    durationS: seconds === undefined ? null : Number(seconds),
    reason: reason ?? '',
  };
}

/** The tests that a stock nova-compute passes and this run did not, in order. */
export function missingPasses(stock: readonly string[], outcomes: readonly TestOutcome[]): string[] {
  const passed = new Set(outcomes.filter(({ result }) => result === 'passed').map(({ test }) => test));
  return stock.filter((test) => !passed.has(test)).sort();
}
