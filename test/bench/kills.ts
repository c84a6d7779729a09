/** kill -9 at so many instants of storing, removing, collecting, sending and fetching µVMs; the first thing lost or left behind ends it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killAgainAndAgain } from '../support/squirrel-kills';
import { figure, type Figure } from './figures';
import type { BenchOptions } from './main';

/** `runs` is the number of kills. */
export async function kills({ runs, say }: BenchOptions): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'bench-kills-'));
  try {
    const report = await killAgainAndAgain(directory, runs, (round) => {
      if (round % 10 === 0) say(`kill ${round} of ${runs}`);
    });
    return [
      figure({ name: 'kills without a loss or a leak', unit: 'kills', values: [report.kills] }),
      figure({ name: 'operations acknowledged before', unit: 'operations', values: [report.acknowledged] }),
      ...[...report.interrupted].map(([act, times]) =>
        figure({ name: `of these in the middle of: ${act}`, unit: 'kills', values: [times] }),
      ),
    ];
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
