/** `prebake doctor`: what stands between this host and prebake's work, and the fix for each. */
import type { Check, DoctorReport, FindingState } from '../doctor';
import { examine } from '../doctor';
import { CommandError, EXIT, type ExitCode, type Output, printable } from './output';

/** The checks of one host; `close` lets go of what they opened. */
export interface Examination {
  readonly host: string | null;
  readonly checks: readonly Check[];
  close(): Promise<void>;
}

const WORDS: Readonly<Record<FindingState, string>> = { ok: 'ok', warn: 'WARN', fail: 'FAIL', skip: '-' };
const CONFIGURATION = 'configuration';

/**
 * Prints the findings.
 * @throws CommandError when a check failed: usage when it is the configuration, else failed
 */
export async function doctor(
  examination: Examination,
  output: Output,
  options: { readonly json: boolean; readonly signal: AbortSignal },
): Promise<void> {
  let report: DoctorReport;
  try {
    report = await examine(examination.checks, options.signal);
  } finally {
    await examination.close();
  }
  options.signal.throwIfAborted();
  if (options.json) output.json({ host: examination.host, ...report });
  else show(report, output);
  if (report.healthy) return;
  const failed = report.checks.filter((check) => check.state === 'fail').map((check) => check.name);
  const code: ExitCode = failed.includes(CONFIGURATION) ? EXIT.usage : EXIT.failed;
  throw new CommandError(`not all is well: ${failed.join(', ')}`, code);
}

function show(report: DoctorReport, output: Output): void {
  const nameWidth = Math.max(...report.checks.map((check) => check.name.length));
  for (const { name, state, detail, fix } of report.checks) {
    output.line(`${WORDS[state].padEnd(5)}${name.padEnd(nameWidth)}  ${printable(detail)}`);
    if (fix !== null) output.line(`${' '.repeat(5 + nameWidth)}  fix: ${printable(fix)}`);
  }
  const { ok, warn, fail, skip } = report.counts;
  output.line();
  output.line(`${ok} ok, ${warn} warnings, ${fail} failed, ${skip} not looked at`);
}
