/**
 * What a power cut leaves: only what was synced is sure to be there, and any rename or removal may be. Watches the system
 * calls of storing, removing and collecting, and holds their order against that.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TRACED = 'trace=fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat';
const REGISTER = join(__dirname, '../register-typescript.cjs');
const PROGRAM = join(__dirname, 'support/squirrel-acts.ts');
const TIMEOUT_MS = 240_000;

/** A call that succeeded, with when it began and ended. */
interface Call {
  readonly kind: 'sync' | 'rename' | 'unlink';
  readonly path: string;
  /** Of a rename. */
  readonly to: string;
  readonly beginS: number;
  readonly endS: number;
}

let directory: string;
let cache: string;
let calls: Call[];

jest.setTimeout(TIMEOUT_MS);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'squirrel-power-'));
  cache = join(directory, 'cache');
  const trace = join(directory, 'trace');
  const node = [process.execPath, '--require', REGISTER, PROGRAM, cache, directory];
  // A file per thread: no line is cut in two by another's.
  await run('strace', ['-ff', '-ttt', '-T', '-y', '-s', '4096', '-e', TRACED, '-o', trace, ...node], {
    timeout: TIMEOUT_MS,
  });
  calls = [];
  for (const name of await readdir(directory)) {
    if (!name.startsWith('trace.')) continue;
    calls.push(...parse(await readFile(join(directory, name), 'utf8')));
  }
  calls.sort((a, b) => a.beginS - b.beginS);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** Lines like `1700000000.123456 rename("/a", "/b") = 0 <0.000012>`. */
function parse(text: string): Call[] {
  return text.split('\n').flatMap((line): Call[] => {
    const match = /^(\d+\.\d+) (\w+)\((.*)\) += 0 <(\d+\.\d+)>$/.exec(line);
    if (match === null) return [];
    const [, begin = '', name = '', words = '', took = ''] = match;
    const beginS = Number(begin);
    const times = { beginS, endS: beginS + Number(took) };
    const quoted = [...words.matchAll(/"([^"]*)"/g)].map((found) => found[1] ?? '');
    if (name.includes('sync'))
      return [{ kind: 'sync', path: /<(.*)>/.exec(words)?.[1] ?? '', to: '', ...times }];
    const kind = name.startsWith('rename') ? 'rename' : 'unlink';
    return [{ kind, path: quoted[0] ?? '', to: quoted[1] ?? '', ...times }];
  });
}

/** Whether a file or directory was synced after one instant and before another. */
function syncedBetween(path: string, afterS: number, beforeS: number): boolean {
  return calls.some(
    (call) => call.kind === 'sync' && call.path === path && call.beginS >= afterS && call.endS <= beforeS,
  );
}

const renamesTo = (part: string): Call[] =>
  calls.filter((call) => call.kind === 'rename' && dirname(call.to) === join(cache, part));
const changesOf = (part: string): Call[] => [
  ...renamesTo(part),
  ...calls.filter((call) => call.kind === 'unlink' && dirname(call.path) === join(cache, part)),
];
const acknowledgements = (): Call[] =>
  calls.filter((call) => call.kind === 'rename' && call.to.includes('/acknowledged-'));

test('every file of the store is synced before it gets its name', () => {
  const published = ['packs', 'maps', 'quarantine', 'uvms'].flatMap(renamesTo);
  expect(published.length).toBeGreaterThan(12);
  for (const { path, to, beginS } of published)
    expect([to, syncedBetween(path, 0, beginS)]).toEqual([to, true]);
});

test('a manifest appears only when all that was published before it is durable', () => {
  const manifests = renamesTo('uvms');
  // Two were stored, and one was moved.
  expect(manifests).toHaveLength(3);
  for (const manifest of manifests) {
    for (const part of ['packs', 'maps', 'quarantine']) {
      for (const { to, endS } of renamesTo(part).filter((call) => call.beginS < manifest.beginS)) {
        expect([to, syncedBetween(join(cache, part), endS, manifest.beginS)]).toEqual([to, true]);
      }
    }
  }
});

test('nothing is removed that a manifest may still refer to after a power cut', () => {
  const removed = ['packs', 'maps'].flatMap((part) =>
    calls.filter((call) => call.kind === 'unlink' && dirname(call.path) === join(cache, part)),
  );
  expect(removed.length).toBeGreaterThan(3);
  for (const { path, beginS } of removed) {
    for (const { endS } of changesOf('uvms').filter((call) => call.beginS < beginS)) {
      expect([path, syncedBetween(join(cache, 'uvms'), endS, beginS)]).toEqual([path, true]);
    }
  }
});

test('what is acknowledged is durable', () => {
  expect(acknowledgements()).toHaveLength(4);
  for (const { to, beginS } of acknowledgements()) {
    for (const { endS } of changesOf('uvms').filter((call) => call.beginS < beginS)) {
      expect([to, syncedBetween(join(cache, 'uvms'), endS, beginS)]).toEqual([to, true]);
    }
  }
});
