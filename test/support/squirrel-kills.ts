/**
 * Kills a process that stores, removes and collects µVMs, sends them to an object store and fetches them, again and again,
 * and looks at what is left each time: every acknowledged µVM whole, here and in the store, every other one whole or gone,
 * and no file that belongs to nothing.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, readdir, readFile, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '../functional/support/until';
import { FakeSwift } from './fake-swift';
import { HoardingHost, imageIdOf, keyOfMade, openObjects } from './hoard';
import { sha256Of } from './sha256';

const NAMES = ['a', 'b', 'c'];
const CACHE = 'cache';
const CHURN = join(__dirname, '../functional/support/squirrel-churn.ts');
const EXEC_ARGV = ['--require', join(__dirname, '../register-typescript.cjs')];
/** Operations that a process begins before it is killed, at most; then it has so much time for the last of them. */
const MOST_OPERATIONS = 7;
const LATEST_KILL_MS = 200;
/** What is known of a µVM in the store has this before its name. */
const STORED = 'store/';

/** What came out; anything wrong is an error instead. */
export interface KillsReport {
  readonly kills: number;
  /** Operations that the killed processes were told to be done. */
  readonly acknowledged: number;
  /** How often a process was killed in the middle of each operation: add, remove, send, fetch. */
  readonly interrupted: ReadonlyMap<string, number>;
}

/** What is known of a µVM from the notes of the killed processes: a digest of its memory, or null for none. */
interface Notes {
  acknowledged: string | null;
  /** What was begun and not acknowledged. */
  begun?: string | null;
  /** How that was to be brought about. */
  act?: string;
}

/** Runs so many rounds in a directory of the caller's. Rejects with the first thing that is not as it should be. */
export async function killAgainAndAgain(
  directory: string,
  kills: number,
  onRound?: (round: number) => void,
): Promise<KillsReport> {
  const log = join(directory, 'log');
  await appendFile(log, '');
  const interrupted = new Map<string, number>();
  const swift = await FakeSwift.start();
  try {
    for (let round = 0; round < kills; round += 1) {
      onRound?.(round);
      await oneRound(directory, log, swift.url, round);
      const notes = await readNotes(log);
      for (const { act } of notes.values()) {
        if (act !== undefined) interrupted.set(act, (interrupted.get(act) ?? 0) + 1);
      }
      const found = await look(directory, swift.url, notes, round);
      // What was interrupted is settled now: the next round starts from what is there.
      for (const [name, digest] of found) await appendFile(log, `settled ${name} ${digest ?? '-'}\n`);
    }
  } finally {
    await swift.stop();
  }
  const acknowledged = (await readFile(log, 'utf8'))
    .split('\n')
    .filter((line) => line.startsWith('done')).length;
  return { kills, acknowledged, interrupted };
}

/** Lets a process work and kills it. The instant is what this is about, so it is a time. */
async function oneRound(directory: string, log: string, store: string, round: number): Promise<void> {
  const begun = async (): Promise<number> => (await readFile(log, 'utf8')).match(/^begin /gm)?.length ?? 0;
  const before = await begun();
  const operations = 1 + (round % MOST_OPERATIONS);
  const args = [join(directory, CACHE), directory, log, store, ...NAMES];
  const child = fork(CHURN, args, { execArgv: EXEC_ARGV });
  const exited = once(child, 'exit');
  try {
    await until(
      'so many operations',
      async () => child.exitCode !== null || (await begun()) >= before + operations,
      120_000,
    );
    if (child.exitCode !== null) throw new Error(`in round ${round} the process ended by itself`);
    await delay((round * 37.7) % LATEST_KILL_MS);
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
  for (const name of await readdir(directory)) {
    // The drafts of the killed process.
    if (/^[abc]-/.test(name)) await rm(join(directory, name), { recursive: true, force: true });
  }
}

async function readNotes(log: string): Promise<Map<string, Notes>> {
  const notes = new Map<string, Notes>();
  for (const line of (await readFile(log, 'utf8')).split('\n').filter(Boolean)) {
    const [stage, name = '', digest = '-', act = ''] = line.split(' ');
    const value = digest === '-' ? null : digest;
    const known = notes.get(name) ?? { acknowledged: null };
    notes.set(name, stage === 'begin' ? { ...known, begun: value, act } : { acknowledged: value });
  }
  return notes;
}

/** What there is of each µVM: the digest of its memory here and, fetched by another host, in the store; null for none. */
async function look(
  directory: string,
  store: string,
  notes: ReadonlyMap<string, Notes>,
  round: number,
): Promise<Map<string, string | null>> {
  const objects = openObjects(store);
  const host = await HoardingHost.open(directory, CACHE, objects);
  const other = await HoardingHost.open(directory, 'other', objects);
  try {
    // A fetch that was cut off goes on where it was.
    for (const key of await readdir(join(host.directory, 'incoming'))) {
      const imageId = NAMES.map(imageIdOf).find((id) => keyOfMade(id) === key);
      if (imageId !== undefined) await host.pull({ imageId, key });
    }
    const found = new Map<string, string | null>();
    for (const [note, { acknowledged, begun }] of notes) {
      const name = note.replace(STORED, '');
      const imageId = imageIdOf(name);
      const uvm = { imageId, key: keyOfMade(imageId) };
      if (note !== name) await other.pull(uvm);
      const digest = await digestOf(note === name ? host : other, uvm.key);
      if (note !== name) await other.squirrel.remove(uvm.key);
      const allowed = [acknowledged, ...(begun === undefined ? [] : [begun])];
      if (!allowed.includes(digest)) {
        throw new Error(
          `after kill ${round}: µVM ${note} is ${digest === null ? 'gone' : 'another than was stored'}`,
        );
      }
      found.set(note, digest);
    }
    await expectNoLeak(host, round);
    return found;
  } finally {
    await host.squirrel.close();
    await other.squirrel.close();
  }
}

/** Of the memory of a µVM that is whole; null for one that is not there. Rejects for any other. */
async function digestOf({ squirrel }: HoardingHost, key: string): Promise<string | null> {
  const entry = (await squirrel.list()).find((one) => one.key === key);
  if (entry === undefined) return null;
  const { problems } = await squirrel.verify(key);
  if (problems.length > 0) throw new Error(problems.join('; '));
  const { ramPath } = await squirrel.materialise(key, { held: true });
  return await sha256Of(ramPath);
}

async function expectNoLeak({ squirrel, directory: cache }: HoardingHost, round: number): Promise<void> {
  const entries = await squirrel.list();
  const expected = new Set(['.prebake-cache', 'lock', 'incoming/lock']);
  for (const entry of entries) {
    if (!('manifest' in entry)) throw new Error(`after kill ${round}: µVM ${entry.key} cannot be read`);
    const { key, packs, files } = entry.manifest;
    expected.add(`uvms/${key}.json`).add(`quarantine/${key}.json`);
    for (const id of packs) expected.add(`packs/${id}.pack`);
    for (const { map } of Object.values(files)) expected.add(`maps/${map}.map`);
    for (const file of ['ram', 'disk.qcow2', 'state', 'written.json'])
      expected.add(`materialised/${key}/${file}`);
  }
  for (const entry of await readdir(cache, { recursive: true, withFileTypes: true })) {
    const path = relative(cache, join(entry.parentPath, entry.name));
    if (entry.isFile() && !expected.has(path))
      throw new Error(`after kill ${round}: ${path} belongs to nothing`);
  }
  if ((await readdir(join(cache, 'staging'))).length > 0)
    throw new Error(`after kill ${round}: staging is not empty`);
}
