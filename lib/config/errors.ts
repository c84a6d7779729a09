/** What is wrong with the operator's configuration, said so that it can be put right. */

/** One thing that is wrong. */
export interface ConfigProblem {
  /** File and, where there is one, line: `/etc/nova/nova.conf:12`. */
  readonly where: string;
  readonly section?: string;
  readonly option?: string;
  /** As it stands in the file; `***` for secrets; absent for a missing option. */
  readonly value?: string;
  readonly expected: string;
}

/** The configuration cannot be used. Its text has everything that is wrong, a line each. */
export class ConfigError extends Error {
  constructor(readonly problems: readonly ConfigProblem[]) {
    super(problems.map(describe).join('\n'));
    this.name = 'ConfigError';
  }
}

function describe(problem: ConfigProblem): string {
  const { where, section, option, value, expected } = problem;
  if (section === undefined) return `${where}: expected ${expected}`;
  const name = option === undefined ? `[${section}]` : `[${section}] ${option}`;
  return value === undefined
    ? `${where}: ${name} is missing: expected ${expected}`
    : `${where}: ${name} = ${value}: expected ${expected}`;
}
