/** kill -9 at random instants of storing and removing: every acknowledged µVM is whole, nothing else is left. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pino from 'pino';
import { Squirrel } from '../../lib/squirrel';
import { keyOf, UNLIMITED } from '../support/squirrel';
import { until } from './support/until';

const KILLS = 25;
const NAMES = ['a', 'b', 'c'];
const logger = pino({ level: 'silent' });
let directory: string;

beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'squirrel-crash-'))));
afterEach(() => rm(directory, { recursive: true, force: true }));

/** What the worker acknowledged last, per µVM: `add <name>`, `remove <name>`; `begin ...` for what it did not. */
async function lastWords(log: string): Promise<Map<string, { op: string; acknowledged: boolean }>> {
  const words = new Map<string, { op: string; acknowledged: boolean }>();
  for (const line of (await readFile(log, 'utf8')).split('\n').filter(Boolean)) {
    const [stage = '', op = '', name = ''] = line.split(' ');
    words.set(name, { op, acknowledged: stage === 'done' });
  }
  return words;
}

test('whatever instant the process dies at', async () => {
  const cache = join(directory, 'cache');
  const log = join(directory, 'log');
  await appendFile(log, '');
  let interrupted = 0;
  for (let round = 0; round < KILLS; round += 1) {
    const lines = (await readFile(log, 'utf8')).length;
    const child = fork(join(__dirname, 'support/squirrel-churn.ts'), [cache, directory, log, ...NAMES], {
      execArgv: ['--require', join(__dirname, '../register-typescript.cjs')],
    });
    const exited = once(child, 'exit');
    await until('the first operation', async () => (await readFile(log, 'utf8')).length > lines);
    // The instant is what this test is about: spread over the first operations.
    await delay((round * 37) % 400);
    child.kill('SIGKILL');
    await exited;

    const squirrel = await Squirrel.open({
      directory: cache,
      imagesDirectory: directory,
      limits: UNLIMITED,
      logger,
    });
    const words = await lastWords(log);
    const present = new Map((await squirrel.list()).map((entry) => [entry.key, entry]));
    for (const [name, { op, acknowledged }] of words) {
      const entry = present.get(keyOf(name));
      if (acknowledged) {
        expect([round, name, entry !== undefined]).toEqual([round, name, op === 'add']);
      } else {
        interrupted += 1;
      }
      if (entry === undefined) continue;
      expect(entry.state).not.toBe('unreadable');
      expect((await squirrel.verify(keyOf(name))).problems).toEqual([]);
    }
    expect(await readdir(join(cache, 'staging'))).toEqual([]);
    const manifests = [...present.values()].flatMap((entry) => ('manifest' in entry ? [entry.manifest] : []));
    const packs = new Set(manifests.flatMap((manifest) => manifest.packs.map((id) => `${id}.pack`)));
    expect(new Set(await readdir(join(cache, 'packs')))).toEqual(packs);
    await squirrel.close();
  }
  const acknowledged = (await readFile(log, 'utf8')).split('\n').filter((line) => line.startsWith('done'));
  expect(acknowledged.length).toBeGreaterThan(KILLS / 2);
  expect(interrupted).toBeGreaterThan(KILLS / 2);
});
