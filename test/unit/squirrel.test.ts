/** The cache of µVMs, on real files: what goes in comes out, damage is found by name, crashes leave nothing half done. */
import {
  mkdtemp,
  open,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pino from 'pino';
import {
  DamagedFile,
  ImageMissing,
  NoRoom,
  Squirrel,
  UnknownUvm,
  UnsupportedFormat,
  type CacheLimits,
  type UvmDraft,
  type UvmManifest,
} from '../../lib/squirrel';
import { keyOf, makeDraft, page, UNLIMITED } from '../support/squirrel';

const logger = pino({ level: 'silent' });
// Every test starts threads of its own, which read TypeScript first.
jest.setTimeout(60_000);
const ZERO = Buffer.alloc(4096);
let directory: string;
let cache: string;
let squirrel: Squirrel;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'squirrel-'));
  cache = join(directory, 'cache');
  squirrel = await Squirrel.open({ directory: cache, imagesDirectory: directory, limits: UNLIMITED, logger });
});
afterEach(async () => {
  await squirrel.close();
  await rm(directory, { recursive: true, force: true });
});

/** Adds a µVM and offers it. */
async function store(draft: UvmDraft): Promise<UvmManifest> {
  const manifest = await squirrel.add(draft);
  await squirrel.release(manifest.key);
  return manifest;
}

async function filesIn(path: string): Promise<string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function flipByte(path: string, position: number): Promise<void> {
  const handle = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, position);
  byte.writeUInt8(byte.readUInt8(0) ^ 0x40);
  await handle.write(byte, 0, 1, position);
  await handle.close();
}

/** A mixture of zero, repeated, compressible and random pages, in runs, by a small generator with a fixed seed. */
function mixedPages(count: number, seed: number): Buffer[] {
  let state = seed;
  const next = (below: number): number => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return state % below;
  };
  const pages: Buffer[] = [];
  while (pages.length < count) {
    const kind = next(4);
    const run = 1 + next(40);
    for (let index = 0; index < run; index += 1) {
      if (kind === 0) pages.push(ZERO);
      else if (kind === 1) pages.push(page('the same everywhere'));
      else pages.push(page(`${seed} ${pages.length}`, kind === 2));
    }
  }
  return pages.slice(0, count);
}

test('files come back as they were, sparse and read-only', async () => {
  const ram = mixedPages(1500, 7);
  const disk = Buffer.concat([page('d', false), Buffer.from('an odd end')]);
  const draft = await makeDraft(directory, 'a', ram, disk);
  await store(draft);

  const template = await squirrel.materialise(keyOf('a'));

  expect((await readFile(template.ramPath)).equals(Buffer.concat(ram))).toBe(true);
  expect((await readFile(template.diskDeltaPath)).equals(disk)).toBe(true);
  expect(await readFile(template.statePath, 'utf8')).toBe(await readFile(draft.files.state, 'utf8'));
  const found = await stat(template.ramPath);
  expect(found.mode & 0o777).toBe(0o444);
  const nonZero = ram.filter((one) => !one.equals(ZERO)).length;
  expect(found.blocks * 512).toBeLessThanOrEqual(nonZero * 4096 + 64 * 1024);
  expect((await squirrel.verify(keyOf('a'))).problems).toEqual([]);
});

test('what is in hand when the cache is closed ends, and nothing else does', async () => {
  const ram = mixedPages(1500, 7);
  await store(await makeDraft(directory, 'a', ram));
  const written = join(cache, 'materialised', keyOf('a'));
  for (let turn = 0; turn < 10; turn += 1) {
    await rm(written, { recursive: true, force: true });
    const other = await Squirrel.open({
      directory: cache,
      imagesDirectory: directory,
      limits: UNLIMITED,
      logger,
    });
    const outcome = other.materialise(keyOf('a')).then(
      () => 'written',
      (error: unknown) => String(error),
    );
    // Sooner and later, so that threads are met when they start, and when they are at it.
    await delay(turn * 40);
    await other.close();
    expect(['written', 'CacheClosing: the cache is being closed']).toContain(await outcome);
  }
  const { ramPath } = await squirrel.materialise(keyOf('a'));
  expect((await readFile(ramPath)).equals(Buffer.concat(ram))).toBe(true);
});

test('pages are stored once, within a µVM and across', async () => {
  const pages = Array.from({ length: 64 }, (_, index) => page(`p${index}`, false));
  const first = await store(await makeDraft(directory, 'a', [...pages, ...pages, ZERO]));
  expect(first.files.ram).toMatchObject({ pages: 128, newPages: 64 });
  const second = await store(await makeDraft(directory, 'b', [...pages].reverse()));
  expect(second.files.ram).toMatchObject({ pages: 64, newPages: 0 });
  expect(second.addedBytes).toBeLessThan(16 * 1024);
  await squirrel.remove(keyOf('a'));
  const template = await squirrel.materialise(keyOf('b'));
  expect((await readFile(template.ramPath)).equals(Buffer.concat([...pages].reverse()))).toBe(true);
});

test('a µVM without any page of its own needs no pack', async () => {
  const manifest = await store(await makeDraft(directory, 'a', [ZERO, ZERO], Buffer.alloc(0)));
  expect(manifest.files.ram).toMatchObject({ sizeBytes: 8192, pages: 0 });
  const template = await squirrel.materialise(keyOf('a'));
  expect((await stat(template.ramPath)).size).toBe(8192);
  expect((await stat(template.diskDeltaPath)).size).toBe(0);
});

test('removal frees what nothing else needs and leaves no file', async () => {
  const before = await filesIn(cache);
  await store(await makeDraft(directory, 'a', mixedPages(100, 1)));
  await squirrel.materialise(keyOf('a'));
  await squirrel.remove(keyOf('a'));
  expect(await filesIn(cache)).toEqual(before);
  await expect(squirrel.materialise(keyOf('a'))).rejects.toBeInstanceOf(UnknownUvm);
});

test('concurrent boots write a µVM out once', async () => {
  await store(await makeDraft(directory, 'a', mixedPages(800, 3)));
  const templates = await Promise.all(Array.from({ length: 8 }, () => squirrel.materialise(keyOf('a'))));
  expect(new Set(templates.map((template) => template.ramPath)).size).toBe(1);
  const inode = (await stat(templates[0]?.ramPath ?? '')).ino;
  await squirrel.materialise(keyOf('a'));
  const again = await Squirrel.open({
    directory: cache,
    imagesDirectory: directory,
    limits: UNLIMITED,
    logger,
  });
  expect((await stat((await again.materialise(keyOf('a'))).ramPath)).ino).toBe(inode);
  await again.close();
});

test('a µVM baked anew replaces the old one, also where it was written out', async () => {
  await store(await makeDraft(directory, 'a', [page('old')]));
  await squirrel.materialise(keyOf('a'));
  await squirrel.quarantine(keyOf('a'), 'a clone did not answer');
  expect(await squirrel.find(keyOf('a'))).toBeUndefined();
  expect(await squirrel.quarantined(keyOf('a'))).toBe('a clone did not answer');
  const draft = await makeDraft(directory, 'a', [page('new')]);
  await store({
    ...draft,
    description: { ...draft.description, bakedAt: new Date(Date.now() + 1000).toISOString() },
  });
  expect(await squirrel.quarantined(keyOf('a'))).toBeUndefined();
  const { ramPath } = await squirrel.materialise(keyOf('a'));
  expect((await readFile(ramPath)).equals(page('new'))).toBe(true);
});

test('written-out files of an earlier bake, left by a process that died, are no damage and not used', async () => {
  await store(await makeDraft(directory, 'a', mixedPages(100, 1)));
  await squirrel.materialise(keyOf('a'));
  const written = join(cache, 'materialised', keyOf('a'));
  const aside = join(directory, 'aside');
  await rename(written, aside);
  const ram = mixedPages(100, 2);
  await store(await makeDraft(directory, 'a', ram));
  await rename(aside, written);

  expect((await squirrel.verify(keyOf('a'))).problems).toEqual([]);
  const { ramPath } = await squirrel.materialise(keyOf('a'));
  expect((await readFile(ramPath)).equals(Buffer.concat(ram))).toBe(true);
});

test('a µVM that was not handed out for a while is handed out at once, and counts as used', async () => {
  await store(await makeDraft(directory, 'a', mixedPages(100, 1)));
  await squirrel.materialise(keyOf('a'));
  const record = join(cache, 'materialised', keyOf('a'), 'written.json');
  const longAgo = new Date(Date.now() - 3_600_000);
  await utimes(record, longAgo, longAgo);
  const { ramPath } = await squirrel.materialise(keyOf('a'));
  expect((await stat(ramPath)).size).toBe(100 * 4096);
  expect((await stat(record)).mtimeMs).toBeGreaterThan(longAgo.getTime());
});

describe('damage', () => {
  beforeEach(async () => {
    await store(await makeDraft(directory, 'a', mixedPages(200, 5)));
  });

  async function only(name: string): Promise<string> {
    const files = await filesIn(join(cache, name));
    expect(files.length).toBeGreaterThan(0);
    return files[0] ?? '';
  }

  test.each(['packs', 'maps'])(
    'any flipped byte in %s is found, named, and keeps the µVM from being offered',
    async (where) => {
      const path = await only(where);
      const size = (await stat(path)).size;
      const positions = [0, 5, 9, Math.floor(size / 2), size - 60, size - 20, size - 1];
      for (const position of positions.filter((at) => at >= 0)) {
        await flipByte(path, position);
        const report = await squirrel.verify(keyOf('a'));
        expect(report.problems.join()).toContain(path);
        await flipByte(path, position);
      }
      expect((await squirrel.verify(keyOf('a'))).problems).toEqual([]);
      await flipByte(path, Math.floor(size / 2));
      await expect(squirrel.materialise(keyOf('a'))).rejects.toBeInstanceOf(DamagedFile);
      expect(await squirrel.quarantined(keyOf('a'))).toContain(path);
      expect(await readdir(join(cache, 'materialised'))).toEqual([]);
      expect(await squirrel.list()).toMatchObject([{ state: 'quarantined', key: keyOf('a') }]);
    },
  );

  test.each(['packs', 'maps'])('a truncated or missing file in %s is found and named', async (where) => {
    const path = await only(where);
    await truncate(path, Math.floor((await stat(path)).size / 2));
    expect((await squirrel.verify(keyOf('a'))).problems.join()).toContain(path);
    await rm(path);
    expect((await squirrel.verify(keyOf('a'))).problems.join()).toContain(path);
  });

  test('pages of a damaged pack are not referred to by the next bake', async () => {
    const path = await only('packs');
    await flipByte(path, 100);
    await expect(squirrel.materialise(keyOf('a'))).rejects.toBeInstanceOf(DamagedFile);
    const again = await makeDraft(directory, 'a', mixedPages(200, 5));
    await store({ ...again, description: { ...again.description, bakedAt: '2030-01-01T00:00:00Z' } });
    const { ramPath } = await squirrel.materialise(keyOf('a'));
    expect((await readFile(ramPath)).equals(await readFile(again.files.ram))).toBe(true);
  });

  test('a changed manifest is refused', async () => {
    const path = await only('uvms');
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"memoryMb": 256', '"memoryMb": 512'));
    await expect(squirrel.find(keyOf('a'))).rejects.toThrow('digest differs');
    expect(await squirrel.list()).toMatchObject([{ state: 'unreadable' }]);
    await writeFile(path, text.slice(0, 100));
    await expect(squirrel.find(keyOf('a'))).rejects.toBeInstanceOf(DamagedFile);
  });

  test('another format version is refused by name', async () => {
    const path = await only('uvms');
    await writeFile(path, (await readFile(path, 'utf8')).replace('"version": 4', '"version": 5'));
    await expect(squirrel.find(keyOf('a'))).rejects.toThrow(UnsupportedFormat);
    await expect(squirrel.find(keyOf('a'))).rejects.toThrow('version 5');
  });

  test('a written-out file that changed is found by verify', async () => {
    const { ramPath } = await squirrel.materialise(keyOf('a'));
    await flipByte(ramPath, 4096 * 150 + 17);
    expect((await squirrel.verify(keyOf('a'))).problems).toEqual([
      `${ramPath} is damaged: page 150 is not what was stored`,
    ]);
  });
});

describe("pages of the guest's own image", () => {
  const blocks = Array.from({ length: 40 }, (_, index) => page(`block ${index}`, false));
  // A made-up page, so that one is of its own.
  const ram = [page('own'), ...blocks.slice(3, 9), ZERO, ...blocks.slice(20, 23).reverse()];
  let image: string;

  beforeEach(async () => {
    image = join(directory, createHash('sha1').update('image-of-a').digest('hex'));
    await writeFile(image, Buffer.concat([ZERO, ...blocks]));
    await store(await makeDraft(directory, 'a', ram, blocks[39]));
  });

  test('are references to it and come back', async () => {
    const manifest = await squirrel.find(keyOf('a'));
    expect(manifest?.files.ram).toMatchObject({ pages: 10, imagePages: 9, newPages: 1 });
    expect(manifest?.files.disk).toMatchObject({ pages: 1, imagePages: 1, newPages: 0 });
    expect(manifest?.addedBytes).toBeLessThan(4096);
    const template = await squirrel.materialise(keyOf('a'));
    expect((await readFile(template.ramPath)).equals(Buffer.concat(ram))).toBe(true);
    expect(await squirrel.verify(keyOf('a'))).toMatchObject({ problems: [] });
  });

  test('without the image the µVM is refused by name until the image is back', async () => {
    const content = await readFile(image);
    await rm(image);
    await expect(squirrel.materialise(keyOf('a'))).rejects.toBeInstanceOf(ImageMissing);
    await expect(squirrel.materialise(keyOf('a'))).rejects.toThrow(image);
    expect((await squirrel.verify(keyOf('a'))).problems.join()).toContain(image);
    await writeFile(image, content);
    expect(await squirrel.materialise(keyOf('a'))).toMatchObject({ key: keyOf('a') });
  });

  test.each(['changed', 'cut off'])('with a %s image the µVM is refused by name for good', async (how) => {
    if (how === 'changed') await flipByte(image, 4096 * 22 + 7);
    else await truncate(image, 4096 * 22);
    await expect(squirrel.materialise(keyOf('a'))).rejects.toThrow(`${image} is damaged: among blocks`);
    expect(await squirrel.find(keyOf('a'))).toBeUndefined();
    expect(await squirrel.quarantined(keyOf('a'))).toContain(image);
    // The next bake is of the image as it is now.
    const again = await makeDraft(directory, 'a', ram);
    await store({ ...again, description: { ...again.description, bakedAt: '2030-01-01T00:00:00Z' } });
    const { ramPath } = await squirrel.materialise(keyOf('a'));
    expect((await readFile(ramPath)).equals(Buffer.concat(ram))).toBe(true);
  });
});

describe('pages that resemble others', () => {
  /** Pages with a few bytes of others changed. */
  function changed(pages: readonly Buffer[]): Buffer[] {
    return pages.map((one, index) => {
      const copy = Buffer.from(one);
      copy.writeUInt32LE(index + 1, (index % 1000) * 4);
      return copy;
    });
  }
  const base = Array.from({ length: 200 }, (_, index) => page(`base ${index}`, false));

  test('are stored as differences, to their own µVM and to another one, and outlive it', async () => {
    const first = await store(
      await makeDraft(directory, 'a', [...base.slice(0, 50), ...changed(base.slice(0, 50))]),
    );
    expect(first.files.ram).toMatchObject({ newPages: 100 });
    expect(first.addedBytes).toBeLessThan(60 * 4096);
    await squirrel.remove(keyOf('a'));
    await store(await makeDraft(directory, 'a', base));
    const ram = [...base.slice(0, 40), ...changed(base.slice(40))];
    const second = await store(await makeDraft(directory, 'b', ram));
    expect(second.files.ram).toMatchObject({ newPages: 160 });
    expect(second.addedBytes).toBeLessThan(40 * 4096);
    await squirrel.remove(keyOf('a'));
    const { ramPath } = await squirrel.materialise(keyOf('b'));
    expect((await readFile(ramPath)).equals(Buffer.concat(ram))).toBe(true);
    expect((await squirrel.verify(keyOf('b'))).problems).toEqual([]);
  });

  test('are stored as differences to the first of their release, which is stored on its own', async () => {
    const other = Array.from({ length: 900 }, (_, index) => page(`other ${index}`, false));
    const one = Array.from({ length: 400 }, (_, index) => page(`one ${index}`, false));
    await store(await makeDraft(directory, 'a', one));
    // Few pages, as two releases have in common.
    const first = await store(await makeDraft(directory, 'b', [...one.slice(0, 40), ...other]));
    expect(first.packs).toHaveLength(1);
    expect(first.files.ram).toMatchObject({ newPages: 940 });
    const later = await store(
      await makeDraft(directory, 'c', [...other.slice(0, 400), ...changed(other.slice(400))]),
    );
    expect(later.files.ram).toMatchObject({ newPages: 500 });
    expect(later.addedBytes).toBeLessThan(60 * 4096);
  });

  test('a few pages of a segment are stored anew, for it would be decoded whole for them', async () => {
    const own = (name: string): Buffer[] =>
      Array.from({ length: 400 }, (_, index) => page(`${name} ${index}`, false));
    const release = own('release');
    await store(await makeDraft(directory, 'a', release));
    await store(await makeDraft(directory, 'b', [...release, ...own('b')]));
    const few = await store(
      await makeDraft(directory, 'c', [...release, ...own('b').slice(0, 40), ...own('c')]),
    );
    expect(few.files.ram).toMatchObject({ newPages: 440 });
    expect(few.packs).toHaveLength(2);
    const many = await store(
      await makeDraft(directory, 'd', [...release, ...own('b').slice(0, 60), ...own('d')]),
    );
    expect(many.files.ram).toMatchObject({ newPages: 400 });
    expect(many.packs).toHaveLength(3);
  });

  test('damage in the other one is found and named', async () => {
    await store(await makeDraft(directory, 'a', base));
    const [pack = ''] = await filesIn(join(cache, 'packs'));
    await store(await makeDraft(directory, 'b', [...base.slice(0, 40), ...changed(base.slice(40))]));
    await flipByte(pack, 4096 * 150);
    expect((await squirrel.verify(keyOf('b'))).problems.join()).toContain(pack);
    await expect(squirrel.materialise(keyOf('b'))).rejects.toThrow(pack);
    expect(await squirrel.quarantined(keyOf('b'))).toContain(pack);
  });
});

describe('gc', () => {
  const shared = Array.from({ length: 60 }, (_, index) => page(`shared ${index}`, false));
  const alone = Array.from({ length: 200 }, (_, index) => page(`alone ${index}`, false));
  /** 30 pages of the other µVM in full, 30 as a basis of differences, and some of its own. */
  const ram = [
    ...shared.slice(0, 40),
    ZERO,
    ...shared.slice(40).map((one) => Buffer.concat([Buffer.from('!'), one.subarray(1)])),
    page('own'),
  ];

  beforeEach(async () => {
    await store(await makeDraft(directory, 'a', [...alone.slice(0, 100), ...shared, ...alone.slice(100)]));
    await store(await makeDraft(directory, 'b', ram));
  });

  async function expectWhole(): Promise<void> {
    const { ramPath } = await squirrel.materialise(keyOf('b'));
    expect((await readFile(ramPath)).equals(Buffer.concat(ram))).toBe(true);
    expect((await squirrel.verify(keyOf('b'))).problems).toEqual([]);
  }

  test('frees pages that only a removed µVM had, in packs that others need pages of', async () => {
    const inode = (await stat((await squirrel.materialise(keyOf('b'))).ramPath)).ino;
    expect(await squirrel.gc()).toMatchObject({ freedBytes: 0, rewrittenPacks: 0 });
    await squirrel.remove(keyOf('a'));
    const { freedBytes, storedBytes, rewrittenPacks } = await squirrel.gc();
    expect(rewrittenPacks).toBe(1);
    expect(freedBytes).toBeGreaterThan(190 * 4096);
    expect(storedBytes).toBeLessThan(70 * 4096);
    const packs = await readdir(join(cache, 'packs'));
    expect((await squirrel.find(keyOf('b')))?.packs.map((id) => `${id}.pack`)).toEqual(packs);
    // What was written out is as good as before.
    expect((await stat((await squirrel.materialise(keyOf('b'))).ramPath)).ino).toBe(inode);
    await rm(join(cache, 'materialised', keyOf('b')), { recursive: true });
    await expectWhole();
    expect(await squirrel.gc()).toMatchObject({ freedBytes: 0, rewrittenPacks: 0 });
  });

  test('boots go on meanwhile', async () => {
    const other = await Squirrel.open({
      directory: cache,
      imagesDirectory: directory,
      limits: UNLIMITED,
      logger,
    });
    try {
      await squirrel.remove(keyOf('a'));
      const collected = squirrel.gc();
      const gc = { over: false };
      const ended = collected.then(
        () => (gc.over = true),
        () => (gc.over = true),
      );
      let boots = 0;
      while (!gc.over || boots < 3) {
        await rm(join(cache, 'materialised', keyOf('b')), { recursive: true, force: true });
        const { ramPath } = await other.materialise(keyOf('b'));
        expect((await readFile(ramPath)).equals(Buffer.concat(ram))).toBe(true);
        boots += 1;
      }
      await ended;
      expect(await collected).toMatchObject({ rewrittenPacks: 1 });
    } finally {
      await other.close();
    }
    await expectWhole();
  });

  test('leaves the pages of a µVM alone that cannot be read', async () => {
    await squirrel.remove(keyOf('a'));
    const map = (await squirrel.find(keyOf('b')))?.files.ram.map ?? '';
    await flipByte(join(cache, 'maps', `${map}.map`), 20);
    expect(await squirrel.gc()).toMatchObject({ freedBytes: 0, rewrittenPacks: 0 });
    await flipByte(join(cache, 'maps', `${map}.map`), 20);
    await expectWhole();
  });

  test('usage tells where the bytes are', async () => {
    const { ram: used } = await squirrel.usage(keyOf('b'));
    expect(used).toMatchObject({
      zeroBytes: 4096,
      imageBytes: 0,
      sharedBytes: 40 * 4096,
      ownBytes: 21 * 4096,
    });
    expect(used.ownStoredBytes).toBeLessThan(4 * 4096);
    await squirrel.remove(keyOf('a'));
    expect((await squirrel.usage(keyOf('b'))).ram).toMatchObject({ sharedBytes: 0, ownBytes: 61 * 4096 });
  });
});

describe('room', () => {
  const pagesOf = (name: string): Buffer[] =>
    Array.from({ length: 50 }, (_, index) => page(`${name} ${index}`, false));
  const BYTES = 50 * 4096;

  async function reopen(limits: CacheLimits): Promise<void> {
    await squirrel.close();
    squirrel = await Squirrel.open({ directory: cache, imagesDirectory: directory, limits, logger });
  }
  /** Writes it out and makes it look as if that was `ageS` seconds ago. */
  async function writeOut(name: string, ageS: number): Promise<string> {
    const { ramPath } = await squirrel.materialise(keyOf(name));
    const then = Date.now() / 1000 - ageS;
    await utimes(join(cache, 'materialised', keyOf(name), 'written.json'), then, then);
    return ramPath;
  }
  async function writtenOut(): Promise<string[]> {
    return (await readdir(join(cache, 'materialised'))).sort();
  }

  beforeEach(async () => {
    for (const name of ['a', 'b', 'c', 'd']) await store(await makeDraft(directory, name, pagesOf(name)));
  });

  test('is made by removing what was used least recently, but nothing in use', async () => {
    await reopen({ materialisedBytes: 3 * BYTES, reserveBytes: 0 });
    const ram = await writeOut('a', 40_000);
    await writeOut('b', 30_000);
    // Maps the file as a guest does.
    const guest = spawn('/usr/bin/python3', [
      '-c',
      'import mmap,sys;f=open(sys.argv[1]);m=mmap.mmap(f.fileno(),0,prot=1);print(1,flush=True);input()',
      ram,
    ]);
    try {
      await once(guest.stdout, 'data');
      await writeOut('c', 0);
      await writeOut('d', 0);
      expect(await writtenOut()).toEqual([keyOf('a'), keyOf('c'), keyOf('d')].sort());
    } finally {
      guest.kill();
      await once(guest, 'exit');
    }
    // c and d were only just handed out; a is of no use to anybody any more.
    await writeOut('b', 0);
    expect(await writtenOut()).toEqual([keyOf('b'), keyOf('c'), keyOf('d')].sort());
  });

  test('that the host needs is not taken', async () => {
    await reopen({ materialisedBytes: Infinity, reserveBytes: Number.MAX_SAFE_INTEGER });
    await expect(squirrel.materialise(keyOf('a'))).rejects.toBeInstanceOf(NoRoom);
    await expect(squirrel.scratch(1)).rejects.toThrow('no room for a bake');
    await expect(squirrel.add(await makeDraft(directory, 'e', pagesOf('e')))).rejects.toBeInstanceOf(NoRoom);
    expect(await squirrel.find(keyOf('a'))).toBeDefined();
    expect(await writtenOut()).toEqual([]);
    expect(await readdir(join(cache, 'staging'))).toEqual([]);
  });
});

test('a µVM of an earlier format is removed with all it had, one of a later format is left alone', async () => {
  const empty = await filesIn(cache);
  await store(await makeDraft(directory, 'a', [page('x')]));
  const path = join(cache, 'uvms', `${keyOf('a')}.json`);
  const text = await readFile(path, 'utf8');
  for (const version of [5, 3]) {
    await writeFile(path, text.replace('"version": 4', `"version": ${version}`));
    await squirrel.close();
    squirrel = await Squirrel.open({
      directory: cache,
      imagesDirectory: directory,
      limits: UNLIMITED,
      logger,
    });
    if (version < 4) expect(await filesIn(cache)).toEqual(empty);
    else await expect(squirrel.find(keyOf('a'))).rejects.toThrow('version 5');
  }
  expect(await squirrel.find(keyOf('a'))).toBeUndefined();
});

test('a key cannot be a path', async () => {
  await expect(squirrel.find('../../etc/passwd')).rejects.toThrow();
  await expect(squirrel.remove('..')).rejects.toThrow();
});

test('a file that cannot be read fails the addition and leaves nothing', async () => {
  const before = await filesIn(cache);
  const draft = await makeDraft(directory, 'a', [page('x')]);
  await rm(draft.files.state);
  await expect(squirrel.add(draft)).rejects.toThrow('ENOENT');
  expect(await filesIn(cache)).toEqual(before);
});

test('a µVM is held back until it is released', async () => {
  await squirrel.add(await makeDraft(directory, 'a', [page('x')]));
  expect(await squirrel.find(keyOf('a'))).toBeUndefined();
  expect(await squirrel.quarantined(keyOf('a'))).toContain('not been proven');
  await expect(squirrel.materialise(keyOf('a'))).rejects.toBeInstanceOf(UnknownUvm);
  expect(await squirrel.materialise(keyOf('a'), { held: true })).toMatchObject({ key: keyOf('a') });
  await squirrel.release(keyOf('a'));
  expect(await squirrel.find(keyOf('a'))).toMatchObject({ key: keyOf('a') });
});
