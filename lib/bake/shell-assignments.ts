/** Writes values so that a POSIX shell can read them back and nothing in them is ever run. */

/**
 * Lines of `name='value'`.
 * @param values names are ours (lower case letters and `_`); values are anything without NUL bytes
 * @throws RangeError for a name that is not a shell variable or a value no shell can hold
 */
export function shellAssignments(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => {
      if (!/^[a-z_]+$/.test(name)) throw new RangeError(`'${name}' is not a shell variable`);
      if (value.includes('\0')) throw new RangeError(`the value of '${name}' has a NUL byte`);
      return `${name}='${value.replaceAll("'", `'\\''`)}'\n`;
    })
    .join('');
}
