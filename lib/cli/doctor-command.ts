/** `prebake doctor`: what stands between this host and prebake's work, and the fix for each. */
import { styleText } from 'node:util';
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
const WORD_WIDTH = 5;
const COLOURS = { ok: 'green', warn: 'yellow', fail: 'red', skip: 'gray' } as const satisfies Record<
  FindingState,
  string
>;
/** On narrower terminals lines break where they like. */
const LEAST_TEXT_WIDTH = 30;
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

/** One check a paragraph: on a terminal wrapped beside the names, and in colours where it has some. */
function show(report: DoctorReport, output: Output): void {
  const nameWidth = Math.max(...report.checks.map((check) => check.name.length));
  const indent = ' '.repeat(WORD_WIDTH + nameWidth + 2);
  const { isTTY = false, columns = 0 } = output.stdout;
  const textWidth = Math.max(LEAST_TEXT_WIDTH, columns - indent.length);
  const text = (words: string, from: string): string =>
    (isTTY ? wrap(printable(words), textWidth - from.length) : [printable(words)]).join(`\n${indent}${from}`);
  for (const { name, state, detail, fix } of report.checks) {
    const word = WORDS[state].padEnd(WORD_WIDTH);
    const shown = isTTY && !process.env.NO_COLOR ? styleText(COLOURS[state], word) : word;
    output.line(`${shown}${name.padEnd(nameWidth)}  ${text(detail, '')}`);
    if (fix !== null) output.line(`${indent}${text(`fix: ${fix}`, '     ')}`);
  }
  const { ok, warn, fail, skip } = report.counts;
  output.line();
  output.line(`${ok} ok, ${warn} warnings, ${fail} failed, ${skip} not looked at`);
}

/** Breaks at blanks; what is longer than a line by itself, as a path, stays whole so that it can be copied. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
