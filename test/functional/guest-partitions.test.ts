/** The gate's own way to move the end of a partition, checked by the program that others use for it. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const GUEST = join(__dirname, '../../lib/bake/guest');
const SMALL_BYTES = 64 * 1024 ** 2;
const LARGE_BYTES = 256 * 1024 ** 2;
const START = 4096;
const PROGRAM = `
import os, sys
import resources
path, table, number, total = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) // 512
disk = os.open(path, os.O_RDWR)
first = os.pread(disk, 1024, 0)
end = (total - 34 if table == 'gpt' else total) // resources.ALIGN * resources.ALIGN
if table == 'gpt':
    resources.grow_gpt(disk, first, total, number, end - 1)
else:
    resources.grow_mbr(disk, first, number, ${START}, end - ${START})
`;

let directory: string;
let disk: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'prebake-partitions-'));
  disk = join(directory, 'disk');
  await writeFile(disk, '');
  await truncate(disk, SMALL_BYTES);
});
afterEach(() => rm(directory, { recursive: true }));

test.each(['gpt', 'dos'])('a %s root partition grows to the end of a larger disk', async (table) => {
  await partition(`label: ${table}\nstart=2048, size=2048\nstart=${START}\n`);
  const [small] = await partitions();
  await truncate(disk, LARGE_BYTES);
  await run('/usr/bin/python3', ['-B', '-c', PROGRAM, disk, table, '2', String(LARGE_BYTES)], {
    env: { ...process.env, PYTHONPATH: GUEST },
  });
  await expect(run('sfdisk', ['--verify', disk])).resolves.toMatchObject({
    stdout: expect.stringContaining('No errors detected') as string,
  });
  const [first, root] = await partitions();
  expect(first).toEqual(small);
  expect(root).toMatchObject({ start: START });
  const endBytes = (START + (root?.size ?? 0)) * 512;
  expect(LARGE_BYTES - endBytes).toBeLessThanOrEqual(table === 'gpt' ? 1024 ** 2 : 0);
});

async function partition(script: string): Promise<void> {
  const tool = spawn('sfdisk', ['-q', disk], { stdio: ['pipe', 'inherit', 'inherit'] });
  tool.stdin.end(script);
  const [status] = (await once(tool, 'exit')) as [number | null];
  if (status !== 0) throw new Error('sfdisk failed');
}

async function partitions(): Promise<{ start: number; size: number }[]> {
  const { stdout } = await run('sfdisk', ['--json', disk]);
  const found = JSON.parse(stdout) as { partitiontable: { partitions: { start: number; size: number }[] } };
  return found.partitiontable.partitions;
}
