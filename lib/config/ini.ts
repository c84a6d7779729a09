/**
 * The syntax of a nova.conf (oslo.config's): sections, `key = value` or `key: value`, continuation lines, comments on lines
 * of their own. What the values mean is not its business.
 */

/** One assignment, as it stands in a file. */
export interface IniEntry {
  readonly file: string;
  readonly line: number;
  readonly section: string;
  readonly option: string;
  /** Continuation lines are joined by line feeds; quotes around the whole value are taken off. */
  readonly value: string;
}

/** A line that means nothing. */
export class IniSyntaxError extends Error {
  constructor(
    readonly file: string,
    readonly line: number,
    readonly expected: string,
  ) {
    super(`${file}:${line}: expected ${expected}`);
    this.name = 'IniSyntaxError';
  }
}

/**
 * All assignments in their order; a later one of the same option wins, which is for the caller to apply.
 *
 * @throws IniSyntaxError
 */
export function parseIni(text: string, file: string): IniEntry[] {
  const entries: IniEntry[] = [];
  let section = 'DEFAULT';
  let pending: { line: number; option: string; values: string[] } | null = null;
  const flush = () => {
    if (pending === null) return;
    const { line, option, values } = pending;
    entries.push({ file, line, section, option, value: values.join('\n') });
    pending = null;
  };
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trimEnd();
    const number = index + 1;
    if (line === '') {
      flush();
    } else if (/^[ \t]/.test(line)) {
      if (pending === null) {
        throw new IniSyntaxError(file, number, 'an option before this continuation line (or no indentation)');
      }
      pending.values.push(line.trimStart());
    } else {
      flush();
      if (line.startsWith('[')) {
        section = sectionName(line, file, number);
      } else if (!/^[#;]/.test(line)) {
        const { option, value } = assignment(line, file, number);
        pending = { line: number, option, values: [value] };
      }
    }
  }
  flush();
  return entries;
}

function sectionName(line: string, file: string, number: number): string {
  const name = /^\[(.+)\]$/.exec(line)?.[1];
  if (name === undefined) throw new IniSyntaxError(file, number, '[section]');
  // Like oslo.config: DEFAULT is spelt so, all others in any case.
  return name === 'DEFAULT' ? name : name.toLowerCase();
}

function assignment(line: string, file: string, number: number): { option: string; value: string } {
  const at = line.search(/[=:]/);
  const option = line.slice(0, Math.max(at, 0)).trim();
  if (option === '') throw new IniSyntaxError(file, number, 'option = value');
  const value = line.slice(at + 1).trim();
  const quote = value.charAt(0);
  const quoted = value.length > 1 && (quote === '"' || quote === "'") && value.endsWith(quote);
  // keystoneauth's options are known with dashes as well.
  return { option: option.replaceAll('-', '_'), value: quoted ? value.slice(1, -1) : value };
}
