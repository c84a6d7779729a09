/** A file system that fills up while a µVM is stored or written out: the call fails, what was there stays whole. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import { Squirrel } from '../../lib/squirrel';
import { UNLIMITED, keyOf, makeDraft, page } from '../support/squirrel';

const run = promisify(execFile);
const logger = pino({ level: 'silent' });
const pagesOf = (name: string, count: number): Buffer[] =>
  Array.from({ length: count }, (_, index) => page(`${name} ${index}`, false));
let directory: string;
let cache: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'squirrel-full-'));
  cache = join(directory, 'cache');
  await mkdir(cache);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'prebake-test', cache]);
});
afterEach(async () => {
  await run('umount', [cache]);
  await rm(directory, { recursive: true, force: true });
});

test('fails the bake or the boot by name and leaves no trace', async () => {
  const limits = { ...UNLIMITED, reserveBytes: -Number.MAX_SAFE_INTEGER };
  const squirrel = await Squirrel.open({ directory: cache, imagesDirectory: directory, limits, logger });
  try {
    await squirrel.add(await makeDraft(directory, 'small', pagesOf('small', 1000)));
    await squirrel.release(keyOf('small'));
    await squirrel.materialise(keyOf('small'));
    const packs = await readdir(join(cache, 'packs'));

    const big = await makeDraft(directory, 'big', pagesOf('big', 4000));
    await expect(squirrel.add(big)).rejects.toThrow('ENOSPC');
    expect(await squirrel.find(keyOf('big'))).toBeUndefined();
    expect(await readdir(join(cache, 'staging'))).toEqual([]);
    expect(await readdir(join(cache, 'packs'))).toEqual(packs);

    await squirrel.add(await makeDraft(directory, 'middle', pagesOf('middle', 1200)));
    await squirrel.release(keyOf('middle'));
    await expect(squirrel.materialise(keyOf('middle'))).rejects.toThrow('ENOSPC');
    expect(await readdir(join(cache, 'materialised'))).toEqual([keyOf('small')]);
    expect(await squirrel.find(keyOf('middle'))).toBeDefined();
    for (const name of ['small', 'middle']) {
      expect((await squirrel.verify(keyOf(name))).problems).toEqual([]);
    }
  } finally {
    await squirrel.close();
  }
});
