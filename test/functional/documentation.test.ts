/** The commands in the documentation: those marked to be run are, against the cloud; all others exist. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = join(__dirname, '../..');
const CLOUD = process.env.PREBAKE_CLOUD ?? '/srv/prebake-cloud';
const COMMAND = join(ROOT, 'dist/lib/cli/main.js');

interface Fence {
  readonly page: string;
  readonly info: string;
  readonly text: string;
}

async function pages(): Promise<string[]> {
  const docs = (await readdir(join(ROOT, 'docs'))).filter((name) => name.endsWith('.md'));
  return ['README.md', ...docs.map((name) => join('docs', name))];
}

async function fences(): Promise<Fence[]> {
  const found = await Promise.all(
    (await pages()).map(async (page) =>
      [...(await readFile(join(ROOT, page), 'utf8')).matchAll(/^```(.+)\n([^]*?)^```$/gm)].map(
        ([, info = '', text = '']) => ({ page, info, text }),
      ),
    ),
  );
  return found.flat();
}

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
    const marked = (await fences()).filter(({ info }) => info === 'sh run');
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

  test('can be read by a shell', async () => {
    for (const { page, text } of (await fences()).filter(({ info }) => /^sh\b/.test(info))) {
      await run('bash', ['-n', '-c', text]).catch((error: unknown) => {
        throw new Error(`${page}: ${text}`, { cause: error });
      });
    }
  });

  test('of prebake exist', async () => {
    const known = await readFile(join(ROOT, 'docs/commands.md'), 'utf8');
    const names = new Set([...known.matchAll(/^## prebake ([a-z -]+)$/gm)].map(([, name = '']) => name));
    const groups = new Set([...names].map((name) => name.split(' ')[0] ?? ''));
    const wrong: string[] = [];
    // In prose the name begins a sentence; a command is in backquotes, indented, or in a fence.
    const prose = await Promise.all(
      (await pages()).map(async (page) => ({ page, text: await readFile(join(ROOT, page), 'utf8') })),
    );
    const said = [
      ...prose.map(({ page, text }) => ({
        page,
        found: text.matchAll(/(?:`|^ {4})prebake ([a-z][a-z-]*)(?: ([a-z]+))?/gm),
      })),
      ...(await fences()).map(({ page, text }) => ({
        page,
        found: text.matchAll(/^prebake ([a-z][a-z-]*)(?: ([a-z]+))?/gm),
      })),
    ];
    for (const { page, found } of said) {
      for (const [, first = '', second] of found) {
        if (!groups.has(first)) wrong.push(`${page}: prebake ${first} ${second ?? ''}`);
        else if (second !== undefined && !names.has(`${first} ${second}`) && !names.has(first)) {
          wrong.push(`${page}: prebake ${first} ${second}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });
});
