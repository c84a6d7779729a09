/**
 * Kills a process that stores, removes and collects µVMs, again and again, and looks at what is left each time: every
 * acknowledged µVM whole, every other one whole or gone, and no file that belongs to nothing.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, readdir, readFile, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pino from 'pino';
import { Squirrel } from '../../lib/squirrel';
import { until } from '../functional/support/until';
import { keyOf, UNLIMITED } from './squirrel';
import { sha256Of } from './sha256';

const NAMES = ['a', 'b', 'c'];
const CHURN = join(__dirname, '../functional/support/squirrel-churn.ts');
const EXEC_ARGV = ['--require', join(__dirname, '../register-typescript.cjs')];
/** The work is over and over again within this time after its first step. */
const LATEST_KILL_MS = 700;
const logger = pino({ level: 'silent' });

/** What came out; anything wrong is an error instead. */
export interface KillsReport {
  readonly kills: number;
  /** Operations that the killed processes were told to be done. */
  readonly acknowledged: number;
  /** µVMs in the middle of whose storing or removal a process was killed. */
  readonly interrupted: number;
}

/** What is known of a µVM from the notes of the killed processes: a digest of its memory, or null for removed. */
interface Notes {
  acknowledged: string | null;
  /** What was begun and not acknowledged. */
  begun?: string | null;
}

/** Runs so many rounds in a directory of the caller's. Rejects with the first thing that is not as it should be. */
export async function killAgainAndAgain(
  directory: string,
  kills: number,
  onRound?: (round: number) => void,
): Promise<KillsReport> {
  const cache = join(directory, 'cache');
  const log = join(directory, 'log');
  await appendFile(log, '');
  let interrupted = 0;
  for (let round = 0; round < kills; round += 1) {
    onRound?.(round);
    await oneRound(cache, directory, log, (round * 37.7) % LATEST_KILL_MS);
    const notes = await readNotes(log);
    for (const { begun } of notes.values()) if (begun !== undefined) interrupted += 1;
    const squirrel = await Squirrel.open({
      directory: cache,
      imagesDirectory: directory,
      limits: UNLIMITED,
      logger,
    });
    try {
      const found = await inspect(squirrel, cache, notes, round);
      // What was interrupted is settled now: the next round starts from what is there.
      for (const [name, digest] of found) await appendFile(log, `settled ${name} ${digest ?? '-'}\n`);
    } finally {
      await squirrel.close();
    }
  }
  const acknowledged = (await readFile(log, 'utf8'))
    .split('\n')
    .filter((line) => line.startsWith('done')).length;
  return { kills, acknowledged, interrupted };
}

/** Lets a process work and kills it. The instant is what this is about, so it is a time. */
async function oneRound(cache: string, directory: string, log: string, killAfterMs: number): Promise<void> {
  const before = (await readFile(log, 'utf8')).length;
  const child = fork(CHURN, [cache, directory, log, ...NAMES], { execArgv: EXEC_ARGV });
  const exited = once(child, 'exit');
  try {
    await until('the first operation', async () => (await readFile(log, 'utf8')).length > before, 120_000);
    await delay(killAfterMs);
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
    const [stage, name = '', digest = '-'] = line.split(' ');
    const value = digest === '-' ? null : digest;
    const known = notes.get(name) ?? { acknowledged: null };
    notes.set(name, stage === 'begin' ? { ...known, begun: value } : { acknowledged: value });
  }
  return notes;
}

/** Returns the digest of the memory of each µVM, null for those that are not there. */
async function inspect(
  squirrel: Squirrel,
  cache: string,
  notes: ReadonlyMap<string, Notes>,
  round: number,
): Promise<Map<string, string | null>> {
  const expectThat = (holds: boolean, what: string): void => {
    if (!holds) throw new Error(`after kill ${round}: ${what}`);
  };
  const found = new Map<string, string | null>();
  const entries = new Map((await squirrel.list()).map((entry) => [entry.key, entry]));
  for (const [name, { acknowledged, begun }] of notes) {
    const entry = entries.get(keyOf(name));
    const allowed = [acknowledged, ...(begun === undefined ? [] : [begun])];
    expectThat(entry !== undefined || allowed.includes(null), `µVM ${name} is gone`);
    found.set(name, null);
    if (entry === undefined) continue;
    expectThat(entry.state !== 'unreadable', `µVM ${name} cannot be read`);
    const { problems } = await squirrel.verify(entry.key);
    expectThat(problems.length === 0, problems.join('; '));
    const { ramPath } = await squirrel.materialise(entry.key, { held: true });
    const digest = await sha256Of(ramPath);
    expectThat(allowed.includes(digest), `µVM ${name} is another than was stored`);
    found.set(name, digest);
  }
  const manifests = [...entries.values()].flatMap((entry) => ('manifest' in entry ? [entry.manifest] : []));
  const expected = new Set(['.prebake-cache', 'lock']);
  for (const { key, packs, files } of manifests) {
    expected.add(`uvms/${key}.json`).add(`quarantine/${key}.json`);
    for (const id of packs) expected.add(`packs/${id}.pack`);
    for (const { map } of Object.values(files)) expected.add(`maps/${map}.map`);
    for (const file of ['ram', 'disk.qcow2', 'state', 'written.json'])
      expected.add(`materialised/${key}/${file}`);
  }
  const files = await readdir(cache, { recursive: true, withFileTypes: true });
  for (const entry of files) {
    const path = relative(cache, join(entry.parentPath, entry.name));
    expectThat(!entry.isFile() || expected.has(path), `${path} belongs to nothing`);
  }
  expectThat((await readdir(join(cache, 'staging'))).length === 0, 'staging is not empty');
  return found;
}
