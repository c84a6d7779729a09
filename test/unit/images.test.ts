/** The names of the Debian images that can be built. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const BUILDER = join(__dirname, '../../devstack/images/debian');

async function lines(option: string): Promise<string[]> {
  return (await run(BUILDER, [option], { timeout: 30_000 })).stdout.trim().split('\n');
}

test('every release has a plain image, and each kind of the others', async () => {
  const names = (await lines('--list')).map((line) => line.split('\t')[0]);
  expect(new Set(names).size).toBe(names.length);
  const kinds = (release: string): string[] =>
    names.filter((name) => name?.startsWith(release)).map((name) => name?.slice(release.length) ?? '');
  expect(kinds('debian-12')).toContain('');
  // Its cloud-init knows no other way than that of the plain image.
  const without = ['-ifupdown', '-networkd'];
  expect(kinds('debian-11')).toEqual(kinds('debian-12').filter((kind) => !without.includes(kind)));
  expect(kinds('debian-13')).toEqual(kinds('debian-12'));
});

test('the corpus has at least twelve of them, of three releases', async () => {
  const known = new Set((await lines('--list')).map((line) => line.split('\t')[0]));
  const corpus = await lines('--corpus');
  expect(corpus.filter((name) => !known.has(name))).toEqual([]);
  expect(corpus.length).toBeGreaterThanOrEqual(12);
  expect(new Set(corpus.map((name) => name.split('-')[1])).size).toBe(3);
});

test.each(['debian-9', 'debian-12-nothing', 'ubuntu', 'debian-12-../x'])(
  '%s is refused by name',
  async (name) => {
    await expect(run(BUILDER, [join('/nonexistent', `${name}.qcow2`)])).rejects.toThrow('no image is named');
  },
);
