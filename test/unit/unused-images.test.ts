/** Which base images go: only those that nobody needs and that nobody used for long. */
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { baseNameOf, removeUnusedImages } from '../../drivers/libvirt/unused-images';

const HOUR = 3_600_000;
let instances: string;
let base: string;

beforeEach(async () => {
  instances = await mkdtemp(join(tmpdir(), 'prebake-images-'));
  base = join(instances, '_base');
  await mkdir(base);
});
afterEach(() => rm(instances, { recursive: true }));

async function image(id: string, ageHours: number): Promise<string> {
  const path = join(base, baseNameOf(id));
  await writeFile(path, id);
  const then = new Date(Date.now() - ageHours * HOUR);
  await utimes(path, then, then);
  return path;
}

/** The header of a qcow2 file, which is all that is read. */
async function diskOver(backing: string, directory: string): Promise<void> {
  const header = Buffer.alloc(512);
  header.writeUInt32BE(0x514649fb, 0);
  header.writeBigUInt64BE(104n, 8);
  header.writeUInt32BE(backing.length, 16);
  header.write(backing, 104);
  await mkdir(join(instances, directory));
  await writeFile(join(instances, directory, 'disk'), header);
}

const sweep = (minimumAgeHours: number): Promise<number> =>
  removeUnusedImages({
    baseDirectory: base,
    instancesDirectory: instances,
    imagesInUse: new Set(['of a µVM']),
    minimumAgeMs: minimumAgeHours * HOUR,
    logger: pino({ level: 'silent' }),
  });

test('an image stays under a disk, for a µVM, and until it is old enough', async () => {
  await image('old', 25);
  await image('of a µVM', 25);
  await image('young', 23);
  await diskOver(await image('under a disk', 25), '4c5e5c02-6b5d-4b5c-8f3a-000000000000_resize');
  await writeFile(join(base, 'something else'), '');
  expect(await sweep(24)).toBe(1);
  const kept = ['of a µVM', 'young', 'under a disk'].map(baseNameOf);
  expect((await readdir(base)).sort()).toEqual([...kept, 'something else'].sort());
});

test('use makes it young again, and an hour is the least', async () => {
  await image('of a µVM', 25);
  await image('just used', 0.5);
  await sweep(0);
  expect(
    await removeUnusedImages({
      baseDirectory: base,
      instancesDirectory: instances,
      imagesInUse: new Set(),
      minimumAgeMs: 0,
      logger: pino({ level: 'silent' }),
    }),
  ).toBe(0);
});
