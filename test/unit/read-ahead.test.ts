/** What is read ahead of a written-out file: what is in it, and none of its holes. */
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dataRanges, readAhead } from '../../lib/squirrel/read-ahead';

const MIB = 2 ** 20;
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'read-ahead-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** A file of so many bytes with data at these places, a hole everywhere else. */
async function sparse(sizeBytes: number, data: readonly (readonly [at: number, bytes: number])[]) {
  const path = join(directory, 'ram');
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  const file = await open(path, 'r+');
  for (const [at, bytes] of data) await file.write(Buffer.alloc(bytes, 1), 0, bytes, at);
  await file.close();
  return path;
}

function rangesOf(path: string, sizeBytes: number) {
  const fd = openSync(path, 'r');
  try {
    return dataRanges(fd, sizeBytes);
  } finally {
    closeSync(fd);
  }
}

test('the ranges of a file are its data', async () => {
  const data = [
    [0, MIB],
    [16 * MIB, 2 * MIB],
    [63 * MIB, MIB],
  ] as const;
  const path = await sparse(64 * MIB, data);
  expect(rangesOf(path, 64 * MIB)).toEqual(data.map(([offset, bytes]) => ({ offset, bytes })));
  expect(readAhead({ paths: [path] })).toEqual({ bytes: 4 * MIB });
});

test('a file that ends with a hole, and one that is nothing else, have no more than their data', async () => {
  const path = await sparse(8 * MIB, [[MIB, MIB]]);
  expect(rangesOf(path, 8 * MIB)).toEqual([{ offset: MIB, bytes: MIB }]);
  expect(rangesOf(await sparse(8 * MIB, []), 8 * MIB)).toEqual([]);
  expect(rangesOf(await sparse(0, []), 0)).toEqual([]);
});

test('a file that is gone is an error for whoever wanted it', () => {
  expect(() => readAhead({ paths: [join(directory, 'gone')] })).toThrow('ENOENT');
});
