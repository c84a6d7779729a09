/** kill -9 at random instants of storing, removing, collecting, sending and fetching: every acknowledged µVM is whole, nothing else is left. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killAgainAndAgain } from '../support/squirrel-kills';

const KILLS = 40;
let directory: string;

beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'squirrel-crash-'))));
afterEach(() => rm(directory, { recursive: true, force: true }));

test('whatever instant the process dies at', async () => {
  const { acknowledged, interrupted } = await killAgainAndAgain(directory, KILLS);
  expect(acknowledged).toBeGreaterThan(KILLS / 4);
  const sum = [...interrupted.values()].reduce((total, times) => total + times, 0);
  expect(sum).toBeGreaterThan(KILLS / 4);
});
