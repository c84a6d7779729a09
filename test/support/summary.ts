/**
 * The end of `npm test`: adds up what jest wrote about each of its runs and prints jest's summary over all of them.
 *
 * `summary.js DIRECTORY` prints it and exits 1 if anything failed (with CI=true also if anything was skipped);
 * `summary.js --count DIRECTORY` prints the one line `N passed, N failed`.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';

const JestRun = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  numPassedTestSuites: z.number(),
  numFailedTestSuites: z.number(),
  numRuntimeErrorTestSuites: z.number(),
  testResults: z.array(
    z.object({
      name: z.string(),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string() })),
    }),
  ),
});
const StageFailed = z.object({ stageFailed: z.string() });

/** All runs added up. A suite that could not run, and a run that did not finish, count as one failed test each. */
export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly suitesPassed: number;
  readonly suitesFailed: number;
  /** Names of tests that were not run; by convention the name says why: `boots under KVM (skipped: no KVM here)`. */
  readonly skipped: readonly string[];
}

const NOTHING: Totals = { passed: 0, failed: 0, suitesPassed: 0, suitesFailed: 0, skipped: [] };
const UNRUN = new Set(['pending', 'todo', 'skipped', 'disabled']);

/** Adds one result file's parsed content to the totals. */
export function addRun(totals: Totals, content: unknown): Totals {
  if (StageFailed.safeParse(content).success) {
    return { ...totals, failed: totals.failed + 1, suitesFailed: totals.suitesFailed + 1 };
  }
  const run = JestRun.parse(content);
  const skipped = run.testResults.flatMap((suite) =>
    suite.assertionResults.filter((test) => UNRUN.has(test.status)).map((test) => test.fullName),
  );
  return {
    passed: totals.passed + run.numPassedTests,
    failed: totals.failed + run.numFailedTests + run.numRuntimeErrorTestSuites,
    suitesPassed: totals.suitesPassed + run.numPassedTestSuites,
    suitesFailed: totals.suitesFailed + run.numFailedTestSuites,
    skipped: [...totals.skipped, ...skipped],
  };
}

/** The summary as jest prints its own, with the name of every skipped test before it. */
export function formatSummary(totals: Totals): string {
  const line = (label: string, failed: number, skipped: number, passed: number): string => {
    const counts = [
      ...(failed > 0 ? [`${failed} failed`] : []),
      ...(skipped > 0 ? [`${skipped} skipped`] : []),
      ...(passed > 0 ? [`${passed} passed`] : []),
      `${failed + skipped + passed} total`,
    ];
    return label.padEnd(13) + counts.join(', ');
  };
  return [
    ...totals.skipped.map((name) => `skipped: ${name}`),
    line('Test Suites:', totals.suitesFailed, 0, totals.suitesPassed),
    line('Tests:', totals.failed, totals.skipped.length, totals.passed),
  ].join('\n');
}

/** The line that continuous integration reads. */
export function formatCount(totals: Totals): string {
  return `${totals.passed} passed, ${totals.failed} failed`;
}

/** Whether the totals let a run end well; skipped tests must say why, and are not accepted by continuous integration. */
export function isAcceptable(totals: Totals, isCi: boolean): boolean {
  if (totals.failed > 0 || totals.suitesFailed > 0 || totals.passed === 0) return false;
  return totals.skipped.every((name) => !isCi && /\(skipped: .+\)/.test(name));
}

/** Reads every result file of a directory. */
export async function readTotals(directory: string): Promise<Totals> {
  const files = (await readdir(directory)).filter((name) => name.endsWith('.json')).sort();
  let totals = NOTHING;
  for (const file of files) {
    totals = addRun(totals, JSON.parse(await readFile(join(directory, file), 'utf8')));
  }
  return totals;
}

async function main(args: readonly string[]): Promise<void> {
  const directory = args.at(-1) ?? 'dist/test-results';
  const totals = await readTotals(directory);
  if (args[0] === '--count') {
    // Without any result the set-up itself failed, which must not read as success.
    process.stdout.write(
      `${totals.passed + totals.failed === 0 ? '0 passed, 1 failed' : formatCount(totals)}\n`,
    );
    return;
  }
  process.stdout.write(`\n${formatSummary(totals)}\n`);
  process.exitCode = isAcceptable(totals, process.env['CI'] === 'true') ? 0 : 1;
}

if (require.main === module) void main(process.argv.slice(2));
