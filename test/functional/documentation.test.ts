/** The commands in the documentation that are marked to be run are, against the cloud. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { documentationFences, documentationPages, ROOT } from '../support/documentation';

const run = promisify(execFile);
const CLOUD = process.env.PREBAKE_CLOUD ?? '/srv/prebake-cloud';
const COMMAND = join(ROOT, 'dist/lib/cli/main.js');

describe('commands in the documentation', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'prebake-docs-'));
    const shim = join(directory, 'prebake');
    const config = join(CLOUD, 'etc/nova-compute.conf');
    await writeFile(
      shim,
      `#!/bin/sh\nexec '${process.execPath}' '${COMMAND}' --config-file '${config}' "$@"\n`,
    );
    await chmod(shim, 0o755);
  });
  afterAll(() => rm(directory, { recursive: true }));

  test('marked to be run do what they should', async () => {
    const marked = documentationFences(await documentationPages()).filter(({ info }) => info === 'sh run');
    expect(marked.length).toBeGreaterThan(2);
    for (const { page, text } of marked) {
      await expect(
        run('bash', ['-euc', text], {
          timeout: 60_000,
          env: { ...process.env, PATH: `${directory}${delimiter}${process.env.PATH ?? ''}` },
        }),
      ).resolves.toMatchObject({ stderr: '' });
      expect(page).not.toBe('');
    }
  });
});
