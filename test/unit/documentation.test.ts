/** What the documentation names is there: commands and their options, scripts, files, options of the configuration, metrics. */
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import {
  commandsRunBy,
  documentationFences,
  documentationPages,
  documentedCommands,
  knownCommands,
  type Page,
  ROOT,
  testsWithCommands,
} from '../support/documentation';

const run = promisify(execFile);

let pages: readonly Page[];
beforeAll(async () => {
  pages = await documentationPages();
});

const reference = (name: string): string => pages.find(({ path }) => path === join('docs', name))?.text ?? '';

/** What `wrong` says of each match, with the page it is on. */
function complaints(
  pattern: RegExp,
  wrong: (groups: Readonly<Record<string, string | undefined>>, page: Page) => string | null,
  of: readonly Page[] = pages,
): string[] {
  return of.flatMap((page) =>
    [...page.text.matchAll(pattern)].flatMap(({ groups = {} }) => {
      const complaint = wrong(groups, page);
      return complaint === null ? [] : [`${page.path}: ${complaint}`];
    }),
  );
}

test('what is marked as shell can be read by one', async () => {
  const scripts = documentationFences(pages).filter(({ info }) => /^sh\b/.test(info));
  expect(scripts.length).toBeGreaterThan(5);
  for (const { page, text } of scripts) {
    await run('bash', ['-n', '-c', text]).catch((error: unknown) => {
      throw new Error(`${page}: ${text}`, { cause: error });
    });
  }
});

test('each command that is to be typed has a test that runs it', async () => {
  const typed = new Set(documentedCommands(pages).map(({ text }) => text));
  expect([...typed].sort()).toEqual([...new Set(knownCommands)].sort());
  // Scripts have the commands themselves, tests take them from the list.
  for (const name of testsWithCommands) {
    const text = await readFile(join(ROOT, name), 'utf8');
    const [first = '', ...others] = name.endsWith('.ts') ? [`commandsRunBy('${name}')`] : commandsRunBy(name);
    for (const words of [first, ...others]) expect(`${name}: ${text}`).toContain(words);
  }
});

// In prose the name begins a sentence; a command is in backquotes, or begins a line of a fence or an indented block.
test('commands of prebake exist, with their options', () => {
  const sections = new Map(
    [
      ...reference('commands.md').matchAll(
        /^## prebake(?: (?<name>[a-z -]+))?\n(?<text>[^]*?)(?=^## |$(?![^]))/gm,
      ),
    ].map(({ groups }) => [groups?.name ?? '', groups?.text ?? ''] as const),
  );
  expect(sections.size).toBeGreaterThan(10);
  const wrong = ({ words = '', rest = '' }: Readonly<Record<string, string | undefined>>): string | null => {
    const [first = '', second = ''] = words.split(' ');
    const name = sections.has(`${first} ${second}`) ? `${first} ${second}` : first;
    const text = sections.get(name);
    if (text === undefined) return `prebake ${words}`;
    if (text.includes('[command]') && name === first && second !== '') return `prebake ${first} ${second}`;
    const given = rest.replace(/\s#.*$/, '').match(/(?<=\s)--[a-z][a-z-]*/g) ?? [];
    const unknown = given.filter((option) => option !== '--help' && !text.includes(`\`${option}`));
    return unknown.length === 0 ? null : `prebake ${name} ${unknown.join(' ')}`;
  };
  const inFences = documentationFences(pages).map(({ page, text }) => ({ path: page, text }));
  expect([
    ...complaints(/(?:`|^ {4})prebake (?<words>[a-z][a-z-]*(?: [a-z]+)*)(?<rest>[^`\n]*)/gm, wrong),
    ...complaints(/^prebake (?<words>[a-z][a-z-]*(?: [a-z]+)*)(?<rest>.*)/gm, wrong, inFences),
  ]).toEqual([]);
});

test('scripts of npm exist', async () => {
  const { scripts } = z
    .object({ scripts: z.record(z.string(), z.string()) })
    .parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')));
  expect(
    complaints(/npm run (?<name>[a-z-]+)/g, ({ name = '' }) => (name in scripts ? null : `npm run ${name}`)),
  ).toEqual([]);
});

test('actions of devstack/all-in-one exist', async () => {
  const { stdout: help } = await run(join(ROOT, 'devstack', 'all-in-one'), ['--help']);
  expect(
    complaints(/all-in-one (?<action>[a-z][a-z-]+)/g, ({ action = '' }) =>
      new RegExp(`all-in-one (?:[a-z-]+\\|)*${action}\\b`).test(help) ? null : `all-in-one ${action}`,
    ),
  ).toEqual([]);
});

test('files exist, those of links and those of this repository', async () => {
  const named = pages.flatMap(({ path, text }) => [
    ...[...text.matchAll(/\]\((?!https?:|#)(?<target>[^)#]+)[^)]*\)/g)].map(({ groups }) => ({
      path,
      target: join(dirname(path), groups?.target ?? ''),
    })),
    ...[...text.matchAll(/`(?<target>(?:lib|drivers|test|devstack|docs)\/[\w./-]*)(?: [^`]*)?`/g)].map(
      ({ groups }) => ({ path, target: groups?.target ?? '' }),
    ),
  ]);
  expect(named.length).toBeGreaterThan(20);
  const missing = await Promise.all(
    named.map(async ({ path, target }) =>
      (await stat(join(ROOT, target)).catch(() => null)) === null ? [`${path}: ${target}`] : [],
    ),
  );
  expect(missing.flat()).toEqual([]);
});

test('options of the configuration are those that are read', () => {
  const known = new Set<string>();
  let section = '';
  for (const line of reference('configuration.md').split('\n')) {
    section = /^## (\[\w+\])/.exec(line)?.[1] ?? section;
    const option = /^\| `(\w+)`/.exec(line)?.[1];
    if (option !== undefined) known.add(`${section} ${option}`);
  }
  expect(known.size).toBeGreaterThan(50);
  const spoken = complaints(
    /`(?<section>\[\w+\]) (?<option>[a-z]\w*)/g,
    ({ section: of = '', option = '' }) => (known.has(`${of} ${option}`) ? null : `${of} ${option}`),
  );
  // Of a configuration file, or of a fence that shows one: each option below its section.
  const shown = pages.flatMap(({ path, text }) =>
    [...text.matchAll(/^(?: {4})?(\[[A-Za-z_]+\])\n((?:(?: {4})?\w+ = .*\n)+)/gm)].flatMap(
      ([, of = '', lines = '']) =>
        [...lines.matchAll(/^ *(\w+) =/gm)]
          .map(([, option = '']) => `${of} ${option}`)
          .filter((name) => !known.has(name))
          .map((name) => `${path}: ${name}`),
    ),
  );
  expect([...spoken, ...shown]).toEqual([]);
});

test('metrics are those that there are', () => {
  const known = new Set([...reference('metrics.md').matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name));
  expect(known.size).toBeGreaterThan(5);
  expect(
    complaints(
      /`(?<name>prebake_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{[^`]*)?`/g,
      ({ name = '' }, { path }) => (known.has(name) || path === 'docs/images.md' ? null : name),
    ),
  ).toEqual([]);
});
