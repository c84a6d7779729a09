/** What is remembered of bakes that failed, and when they are tried again. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BakeFailures, mayTryAgain, type FailedBake } from '../../lib/bake/failures';

const KEY = 'ab'.repeat(32);
const FAILED: FailedBake = { key: KEY, imageId: 'a', phase: 'boot', reason: 'a panic', forGood: false };
const NOON = new Date('2026-11-20T12:00:00.000Z');

let directory: string;
let failures: BakeFailures;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'failures-'));
  failures = new BakeFailures(directory);
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** Minutes from noon until the failure may be tried again. */
async function waitMinutes(): Promise<number> {
  const retryAt = (await failures.find(KEY))?.retryAt;
  return typeof retryAt !== 'string' ? NaN : (Date.parse(retryAt) - NOON.getTime()) / 60_000;
}

test('each failure in a row waits longer, a day at most', async () => {
  const waits = [];
  for (let attempt = 0; attempt < 6; attempt += 1) {
    await failures.record(FAILED, NOON);
    waits.push(await waitMinutes());
  }
  expect(waits).toEqual([10, 40, 160, 640, 1440, 1440]);
  expect(await failures.find(KEY)).toMatchObject({ attempts: 6, reason: 'a panic', phase: 'boot' });
});

test('tried again after its time, and never what cannot get better', async () => {
  await failures.record(FAILED, NOON);
  const failure = await failures.find(KEY);
  if (failure === undefined) throw new Error('not kept');
  expect(mayTryAgain(failure, new Date('2026-11-20T12:09:59.000Z'))).toBe(false);
  expect(mayTryAgain(failure, new Date('2026-11-20T12:10:00.000Z'))).toBe(true);
  expect(mayTryAgain({ ...failure, retryAt: null }, new Date('2036-01-01T00:00:00.000Z'))).toBe(false);
});

test('a bake that went well ends the row', async () => {
  await failures.record(FAILED, NOON);
  await failures.clear(KEY);
  await failures.record(FAILED, NOON);
  expect(await failures.find(KEY)).toMatchObject({ attempts: 1 });
});

test('records of an image as it was before are dropped', async () => {
  await failures.record(FAILED, NOON);
  await failures.record({ ...FAILED, key: 'cd'.repeat(32), reason: 'changed' }, NOON);
  await failures.record({ ...FAILED, key: 'ef'.repeat(32), imageId: 'b' }, NOON);
  expect((await failures.list()).map(({ imageId, reason }) => [imageId, reason])).toEqual(
    expect.arrayContaining([
      ['a', 'changed'],
      ['b', 'a panic'],
    ]),
  );
  expect(await readdir(join(directory, 'bake-failures'))).toHaveLength(2);
});

test('a record that cannot be read counts as none', async () => {
  await failures.record(FAILED, NOON);
  await writeFile(join(directory, 'bake-failures', `${KEY}.json`), '{"version":1');
  expect(await failures.list()).toEqual([]);
  await failures.record(FAILED, NOON);
  expect(await failures.list()).toHaveLength(1);
});
