/**
 * The pages of the documentation, the fenced blocks in them, and the commands they tell a reader to type: which test runs
 * each of them, in the words of the page.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The repository. */
export const ROOT = join(__dirname, '..', '..');

/** README.md or a page of docs/. */
export interface Page {
  /** Relative to the repository. */
  readonly path: string;
  readonly text: string;
}

/** A block between ``` lines. */
export interface Fence {
  readonly page: string;
  /** What stands behind the opening marks: `sh`. */
  readonly info: string;
  readonly text: string;
}

export async function documentationPages(): Promise<readonly Page[]> {
  const docs = (await readdir(join(ROOT, 'docs'))).filter((name) => name.endsWith('.md')).sort();
  const paths = ['README.md', ...docs.map((name) => join('docs', name))];
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(ROOT, path), 'utf8') })));
}

export function documentationFences(pages: readonly Page[]): readonly Fence[] {
  return pages.flatMap(({ path, text }) =>
    [...text.matchAll(/^```(.+)\n([^]*?)^```$/gm)].map(([, info = '', content = '']) => ({
      page: path,
      info,
      text: content,
    })),
  );
}

/** A line to be typed, as a page has it, without the comment or description behind it. */
export interface DocumentedCommand {
  readonly page: string;
  readonly text: string;
}

/** Written by `prebake command-docs`: synopses, which a unit test compares with the program. */
const GENERATED = join('docs', 'commands.md');
const PROGRAMS = 'apt-get|curl|devstack/[\\w-]+|echo|npm|npx|openstack|prebake|systemctl';

/** Commands of fences that a shell can read, and of indented blocks. */
export function documentedCommands(pages: readonly Page[]): readonly DocumentedCommand[] {
  const inFences = documentationFences(pages)
    .filter(({ info }) => /^sh\b/.test(info))
    .flatMap(({ page, text }) => text.split('\n').map((line) => ({ page, text: line })));
  const indented = pages
    .filter(({ path }) => path !== GENERATED)
    .flatMap(({ path, text }) =>
      [...text.matchAll(new RegExp(`^ {4,}((?:${PROGRAMS}) .*)$`, 'gm'))].map(([, line = '']) => ({
        page: path,
        text: line.replace(/ {2,}.*$/, ''),
      })),
    );
  return [...inFences, ...indented]
    .map(({ page, text }) => ({ page, text: text.replace(/\s+#.*$/, '').trim() }))
    .filter(({ text }) => text !== '');
}

/**
 * Which test runs a command, or which script that each run of the tests begins with. Tests take their commands from here, and a
 * unit test compares this with the pages. Of `systemctl`, the half that needs a systemd as process 1 is left out: units
 * are enabled and disabled, and what they start is started by the same test.
 */
const RUN_BY: Readonly<Record<string, readonly string[]>> = {
  'test/functional/package.test.ts': [
    'npm run package',
    'apt-get install ./prebake-compute_*.deb',
    "echo 'include <abstractions/prebake>' >>/etc/apparmor.d/local/abstractions/libvirt-qemu",
    'systemctl restart libvirtd',
    'systemctl disable --now nova-compute',
    'systemctl enable --now prebake-compute',
    'systemctl disable --now prebake-compute',
    'systemctl enable --now nova-compute',
  ],
  'test/integration/documentation.test.ts': [
    'prebake config check',
    'prebake config-sample',
    'prebake config-docs',
    'prebake metrics-docs',
    'prebake command-docs',
    'prebake doctor',
    'prebake bake IMAGE',
    'prebake cache ls',
    'prebake cache verify',
    'prebake boots',
    'prebake boots SERVER',
    'prebake cache rm KEY',
    'openstack compute service list --service nova-compute',
    'npm run bench -- NAME [--runs N] [--json FILE]',
    'npx jest --selectProjects integration --runInBand --testPathPatterns integration/servers',
    'npm run tempest -- --only api',
    'npm run tempest -- --only guests',
  ],
  'test/integration/hoarding.test.ts': [
    'prebake cache push [IMAGE|KEY...]',
    'prebake cache pull [IMAGE|KEY...]',
  ],
  'test/integration/demo.test.ts': ['npm run demo'],
  'test/run': ['npm run build'],
  'devstack/bootstrap.sh': ['npm ci'],
};

/** What no test runs, and why. */
const NOT_RUN: Readonly<Record<string, string>> = {
  'npm test': 'is the run of all tests',
  'npm test -- static unit': 'is a part of that run',
  'npm test -- guests': 'takes longer than that run',
};

/** The commands that a test has to run, as the pages have them. */
export function commandsRunBy(test: string): readonly string[] {
  const commands = RUN_BY[test];
  if (commands === undefined) throw new Error(`${test} runs no command of the documentation`);
  return commands;
}

/** The tests that run commands. */
export const testsWithCommands = Object.keys(RUN_BY);

/** All commands that are accounted for. */
export const knownCommands: readonly string[] = [...Object.values(RUN_BY).flat(), ...Object.keys(NOT_RUN)];
