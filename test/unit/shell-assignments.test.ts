/** What a shell reads back is what was written, whatever it is. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { shellAssignments } from '../../lib/bake/shell-assignments';

const run = promisify(execFile);

describe('shellAssignments', () => {
  it.each([
    'plain',
    '',
    "it's",
    "''",
    '$(reboot) `reboot` $HOME',
    'two\nlines',
    '"; exit 1; "',
    "\\'; exit 1; '",
    'µVM',
  ])('survives a shell: %j', async (value) => {
    const script = `${shellAssignments({ value })}printf %s "$value"`;
    const { stdout } = await run('sh', ['-c', script]);
    expect(stdout).toBe(value);
  });

  it('takes no other names', () => {
    expect(() => shellAssignments({ 'x;reboot': '' })).toThrow(RangeError);
  });

  it('takes no NUL byte, which a shell would drop', () => {
    expect(() => shellAssignments({ value: 'a\0b' })).toThrow(RangeError);
  });
});
