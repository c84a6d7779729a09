import { addRun, formatCount, formatSummary, isAcceptable, type Totals } from '../support/summary';

const NOTHING: Totals = { passed: 0, failed: 0, suitesPassed: 0, suitesFailed: 0, skipped: [] };

function run(counts: { passed?: number; failed?: number; broken?: number; skipped?: string[] }): unknown {
  return {
    numPassedTests: counts.passed ?? 0,
    numFailedTests: counts.failed ?? 0,
    numPassedTestSuites: 1,
    numFailedTestSuites: counts.broken ?? 0,
    numRuntimeErrorTestSuites: counts.broken ?? 0,
    testResults: [
      {
        name: 'a.test.ts',
        assertionResults: (counts.skipped ?? []).map((fullName) => ({ fullName, status: 'pending' })),
      },
    ],
  };
}

test('adds up several runs, with a suite that could not run as a failure', () => {
  const totals = [run({ passed: 3 }), run({ passed: 4, failed: 1, broken: 1 })].reduce(addRun, NOTHING);
  expect(formatCount(totals)).toBe('7 passed, 2 failed');
});

test('counts a run that did not finish as a failure', () => {
  const totals = addRun(addRun(NOTHING, run({ passed: 3 })), { stageFailed: 'jest did not finish' });
  expect(formatCount(totals)).toBe('3 passed, 1 failed');
  expect(isAcceptable(totals, false)).toBe(false);
});

test('prints what jest prints', () => {
  const totals = addRun(NOTHING, run({ passed: 3, failed: 1, skipped: ['x (skipped: no KVM here)'] }));
  expect(formatSummary(totals)).toBe(
    'skipped: x (skipped: no KVM here)\n' +
      'Test Suites: 1 passed, 1 total\n' +
      'Tests:       1 failed, 1 skipped, 3 passed, 5 total',
  );
});

test.each([
  ['all passed', run({ passed: 1 }), false, true],
  ['all passed, in CI', run({ passed: 1 }), true, true],
  ['nothing ran', run({}), false, false],
  ['one failed', run({ passed: 1, failed: 1 }), false, false],
  ['skipped with a reason', run({ passed: 1, skipped: ['x (skipped: no KVM here)'] }), false, true],
  ['skipped with a reason, in CI', run({ passed: 1, skipped: ['x (skipped: no KVM here)'] }), true, false],
  ['skipped without a reason', run({ passed: 1, skipped: ['x'] }), false, false],
])('judges a run: %s', (_what, content, isCi, expected) => {
  expect(isAcceptable(addRun(NOTHING, content), isCi)).toBe(expected);
});
