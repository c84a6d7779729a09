/** Manifests, page maps and packs that somebody made to do harm, or that were harmed: refused, by name, with the reason. */
import { hash } from 'node:crypto';
import { appendFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeBlock, encodeBound } from 'lz4';
import { DamagedFile } from '../../lib/squirrel';
import { readMap } from '../../lib/squirrel/live-pages';
import { parseManifest, serialiseManifest, type UvmManifest } from '../../lib/squirrel/manifest';
import {
  FOOTER_BYTES,
  MAX_INDEX_BYTES,
  MAX_PREFIX_PAGES,
  MAX_PREFIX_SEGMENTS,
  SEGMENT_PAGES,
  WINDOW_LOG,
  pageHash,
  type PackFile,
  type PrefixRun,
} from '../../lib/squirrel/pack-format';
import { assemble, check, encode, type EncodedSegment } from '../../lib/squirrel/pack-writer';
import { IMAGE, PageMapBuilder } from '../../lib/squirrel/page-map';
import { planRestore } from '../../lib/squirrel/restore-plan';
import { LZ4, ZSTD } from '../../lib/squirrel/codec';
import { compress } from '../../lib/squirrel/zstd';
import { makeDraft, page } from '../support/squirrel';

const PAGE = 4096;
const frame = (content: Uint8Array): Buffer => compress(content, { level: 1, windowLog: WINDOW_LOG });
let directory: string;
let count = 0;

beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'squirrel-untrusted-'))));
afterEach(() => rm(directory, { recursive: true, force: true }));

interface Made {
  readonly segments?: readonly EncodedSegment[];
  readonly bases?: readonly string[];
  readonly hashes?: Buffer;
  readonly pages?: number;
}

/** A pack of these pages under its rightful name, but with whatever is asked for in it. */
async function makePack(pages: readonly Buffer[], changes: Made = {}): Promise<PackFile> {
  const staged = join(directory, `staged-${(count += 1)}`);
  const { id } = assemble({
    path: staged,
    segments: [{ codec: ZSTD, stored: frame(Buffer.concat(pages)), prefix: [] }],
    bases: [],
    hashes: Buffer.concat(pages.map((one) => pageHash(one))),
    pages: pages.length,
    ...changes,
  });
  return await put(id, await readFile(staged));
}

async function put(id: string, content: Buffer): Promise<PackFile> {
  const path = join(directory, `${id}.pack`);
  await writeFile(path, content);
  return { id, path };
}

function expectRefused(work: () => unknown, path: string, problem: string | RegExp): void {
  let refusal: unknown;
  try {
    work();
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toBeInstanceOf(DamagedFile);
  expect(refusal).toMatchObject({ path });
  expect(String(refusal)).toMatch(problem);
}

const some = Array.from({ length: 5 }, (_, index) => page(`some ${index}`, false));

describe('a pack', () => {
  test('as it should be is read', async () => {
    expect(check(await makePack(some))).toEqual({ pages: 5 });
  });

  test('is refused wherever it is cut off', async () => {
    const pack = await makePack(some);
    const content = await readFile(pack.path);
    for (const length of [
      0,
      1,
      7,
      8,
      20,
      Math.floor(content.length / 2),
      content.length - 17,
      content.length - 1,
    ]) {
      await writeFile(pack.path, content.subarray(0, length));
      expectRefused(() => check(pack), pack.path, 'is damaged');
    }
  });

  test('is refused with any bit flipped', async () => {
    const pack = await makePack(some);
    const content = await readFile(pack.path);
    for (let at = 0; at < content.length; at += 61) {
      const flipped = Buffer.from(content);
      flipped.writeUInt8(flipped.readUInt8(at) ^ (1 << (at % 8)), at);
      await writeFile(pack.path, flipped);
      expectRefused(() => check(pack), pack.path, 'is damaged');
    }
  });

  test('is refused under the name of another', async () => {
    const pack = await makePack(some);
    const other = await makePack([page('other')]);
    const swapped = await put(other.id, await readFile(pack.path));
    expectRefused(() => check(swapped), swapped.path, 'index is not the one that was stored');
  });

  test('is refused with a segment of another pack of the same size', async () => {
    const pack = await makePack([page('this', false)]);
    const other = await makePack([page('that', false)]);
    const content = await readFile(pack.path);
    const theirs = await readFile(other.path);
    // Both have one raw block of a page, and the same positions.
    theirs.copy(content, 8, 8, 8 + PAGE);
    await writeFile(pack.path, content);
    expectRefused(() => check(pack), pack.path, 'segment 0 is not what was stored');
  });

  test.each([
    ['more', Buffer.alloc(256 * 1024 ** 2)],
    ['less', Buffer.alloc(PAGE - 1)],
  ])(
    'is refused when a frame has %s in it than it may, and nothing is written beyond',
    async (_, content) => {
      const stored = frame(content);
      expect(stored.length).toBeLessThan(200_000);
      const pack = await makePack(some, { segments: [{ codec: ZSTD, stored, prefix: [] }] });
      const before = process.memoryUsage().rss;
      expectRefused(() => check(pack), pack.path, 'segment 0 cannot be decoded');
      expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 ** 2);
    },
  );

  test.each([
    ['no zstd', ZSTD],
    ['no LZ4', LZ4],
    ['of a codec that there is not', 3],
  ])('is refused when a segment is %s', async (_, codec) => {
    const stored = Buffer.from('not a frame at all');
    const pack = await makePack([some[0] ?? Buffer.alloc(PAGE)], {
      segments: [{ codec, stored, prefix: [] }],
    });
    expectRefused(() => check(pack), pack.path, 'segment 0 cannot be decoded');
  });

  test('is refused when an LZ4 block has more in it than it may', async () => {
    const content = Buffer.alloc(4 * 1024 ** 2);
    const stored = Buffer.alloc(encodeBound(content.length));
    const bytes = encodeBlock(content, stored);
    const segment = { codec: LZ4, stored: stored.subarray(0, bytes), prefix: [] };
    const pack = await makePack(some, { segments: [segment] });
    expectRefused(() => check(pack), pack.path, 'segment 0 cannot be decoded');
  });

  test.each([
    ['too large to be one', MAX_INDEX_BYTES + 1, 'footer is wrong'],
    ['larger than it is', 1_000_000, 'index cannot be decoded'],
    ['smaller than it is', 20, 'index cannot be decoded'],
  ])('is refused when its index is said to be %s', async (_, bytes, problem) => {
    const pack = await makePack(some);
    const content = await readFile(pack.path);
    content.writeUInt32LE(bytes, content.length - FOOTER_BYTES + 4);
    await writeFile(pack.path, content);
    expectRefused(() => check(pack), pack.path, problem);
  });

  test('is refused when the counts in its index do not add up', async () => {
    const pack = await makePack(some);
    const content = await readFile(pack.path);
    const indexAt = content.length - FOOTER_BYTES - content.readUInt32LE(content.length - FOOTER_BYTES);
    for (const [at, value] of [
      [0, 0xffffffff],
      [4, 0xffffffff],
      [8, 0xffffffff],
      [12, 0xffffffff],
      [4, 2049],
      [16, 0x7fffffff],
      [24, 9],
    ] as const) {
      const index = Buffer.alloc(16 + 44 + 5 * 8);
      [1, 5, 0, 0, indexAt - 8, ZSTD, 0].forEach((word, position) => index.writeUInt32LE(word, position * 4));
      index.writeUInt32LE(value, at);
      const stored = frame(index);
      const footer = Buffer.from(content.subarray(content.length - FOOTER_BYTES));
      footer.writeUInt32LE(stored.length, 0);
      footer.writeUInt32LE(index.length, 4);
      footer.writeUInt32LE(ZSTD, 8);
      const made = await put(
        hash('sha256', stored),
        Buffer.concat([content.subarray(0, indexAt), stored, footer]),
      );
      expectRefused(() => check(made), made.path, /index has|length is wrong/);
    }
  });

  test('is refused when a segment is stored in more than its pages could take, before it is read', async () => {
    const stored = Buffer.alloc(8 * 1024 ** 2);
    const pack = await makePack(some, { segments: [{ codec: ZSTD, stored, prefix: [] }] });
    expectRefused(() => check(pack), pack.path, 'segment 0 larger than what is in it');
  });

  test('is refused when its index is stored in more than it could take, before it is read', async () => {
    const pack = await makePack(some);
    const content = await readFile(pack.path);
    const footer = Buffer.from(content.subarray(content.length - FOOTER_BYTES));
    const indexBytes = 300 * 1024 ** 2;
    footer.writeUInt32LE(indexBytes, 0);
    await truncate(pack.path, 8 + indexBytes);
    await appendFile(pack.path, footer);
    const before = process.memoryUsage().arrayBuffers;
    expectRefused(() => check(pack), pack.path, 'footer is wrong');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10 * 1024 ** 2);
  });

  test('is refused when it takes too much memory to write out what builds on it', async () => {
    // Zeros: 4 MiB of them in 400 bytes, and every segment of the base is needed at once.
    const zeros = frame(Buffer.alloc(SEGMENT_PAGES * PAGE));
    const count = MAX_PREFIX_SEGMENTS;
    const makeBase = async (marker: string): Promise<PackFile> => {
      const hashes = Buffer.alloc(count * SEGMENT_PAGES * 8, marker);
      const segments = Array<EncodedSegment>(count).fill({ codec: ZSTD, stored: zeros, prefix: [] });
      return await makePack([], { segments, hashes, pages: count * SEGMENT_PAGES });
    };
    const bases = await Promise.all(['a', 'b', 'c'].map(makeBase));
    const derived = await Promise.all(
      bases.map(async (base, number) =>
        makePack([page(`derived ${number}`)], {
          bases: [base.id],
          segments: [
            {
              codec: ZSTD,
              stored: zeros,
              prefix: Array.from({ length: count }, (_, at) => ({
                base: 0,
                page: at * SEGMENT_PAGES,
                pages: 1,
              })),
            },
          ],
        }),
      ),
    );
    const path = join(directory, 'map');
    const builder = new PageMapBuilder();
    derived.forEach((_, pack) => builder.add(pack, pack, 0));
    const content = builder.serialise(new Map(), Buffer.alloc(0));
    await writeFile(path, content);
    const uvm = {
      packs: [...derived, ...bases],
      maps: [{ path, digest: hash('sha256', content), sizeBytes: 3 * PAGE }],
    };
    expectRefused(() => planRestore(uvm), derived[0]?.path ?? '', 'pages of others at once');
  });

  test('is refused when a page is not the one that its index has a hash of', async () => {
    const hashes = Buffer.concat(some.map((one) => pageHash(one)));
    hashes.writeUInt8(hashes.readUInt8(17) ^ 1, 17);
    const pack = await makePack(some, { hashes });
    expectRefused(() => check(pack), pack.path, 'page 2 does not have its hash');
  });

  describe('with a base', () => {
    const changed = some.map((one) => Buffer.concat([Buffer.from('changed'), one.subarray(7)]));

    async function makeDerived(base: PackFile, prefix: readonly PrefixRun[]): Promise<PackFile> {
      const sound = prefix.length === 1 && prefix[0]?.pages === 5;
      const hashes = Buffer.concat(changed.map((one) => pageHash(one)));
      const source = join(directory, 'changed');
      await writeFile(source, Buffer.concat(changed));
      const numbers = Uint32Array.from(changed.keys());
      const { codec, stored } = encode({
        sources: [{ kind: 'file', path: source, numbers }],
        bases: [base],
        prefix: sound ? prefix : [],
        hashes,
      });
      return await makePack(changed, { segments: [{ codec, stored, prefix }], bases: [base.id], hashes });
    }

    test('as it should be is read, and is much smaller', async () => {
      const derived = await makeDerived(await makePack(some), [{ base: 0, page: 0, pages: 5 }]);
      expect(check(derived)).toEqual({ pages: 5 });
      expect((await readFile(derived.path)).length).toBeLessThan(1000);
    });

    test.each([
      ['beyond the end of it', [{ base: 0, page: 3, pages: 3 }], 'refers beyond the end of'],
      ['to one that is not named', [{ base: 1, page: 0, pages: 1 }], 'impossible prefix'],
      [
        'twice to the same',
        [
          { base: 0, page: 0, pages: 1 },
          { base: 0, page: 0, pages: 1 },
        ],
        'impossible prefix',
      ],
      [
        'backwards',
        [
          { base: 0, page: 3, pages: 1 },
          { base: 0, page: 0, pages: 1 },
        ],
        'impossible prefix',
      ],
      ['to nothing', Array<PrefixRun>(4000).fill({ base: 0, page: 0, pages: 0 }), 'impossible prefix'],
      [
        'to pages all over it',
        Array.from({ length: MAX_PREFIX_SEGMENTS + 1 }, (_, at) => ({
          base: 0,
          page: at * SEGMENT_PAGES,
          pages: 1,
        })),
        'impossible prefix',
      ],
      [
        'to more than a prefix may have',
        [{ base: 0, page: 0, pages: MAX_PREFIX_PAGES + 1 }],
        'impossible prefix',
      ],
      [
        'to so many that their sum runs over',
        [
          { base: 0, page: 0, pages: 0xffffffff },
          { base: 0, page: 0, pages: 0xffffffff },
        ],
        'impossible prefix',
      ],
    ])('is refused when it refers %s', async (_, prefix, problem) => {
      const derived = await makeDerived(await makePack(some), prefix);
      expectRefused(() => check(derived), derived.path, problem);
    });

    test('is refused without it, and when it builds on others itself', async () => {
      const base = await makePack(some);
      const derived = await makeDerived(base, [{ base: 0, page: 0, pages: 5 }]);
      const third = await makeDerived(derived, [{ base: 0, page: 0, pages: 5 }]);
      expectRefused(() => check(third), third.path, 'which has bases');
      await rm(base.path);
      expectRefused(() => check(derived), base.path, 'cannot be opened');
    });
  });
});

describe('a page map', () => {
  async function makeMap(content: Buffer, sizeBytes = 3 * PAGE): Promise<() => unknown> {
    const path = join(directory, 'map');
    await writeFile(path, content);
    return () => readMap({ path, digest: hash('sha256', content), sizeBytes }, 1);
  }
  const builder = new PageMapBuilder();
  builder.add(0, 0, 7);
  builder.add(2, IMAGE, 9);
  const sound = builder.serialise(new Map(), Buffer.alloc(32));
  const withContent = (content: Buffer, bytes = content.length): Buffer => {
    const head = Buffer.from(Uint32Array.of(bytes, ZSTD).buffer);
    return Buffer.concat([sound.subarray(0, 8), head, frame(content)]);
  };
  const words = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);

  test('as it should be is read', async () => {
    expect((await makeMap(sound))()).toMatchObject({
      extents: [{ packPage: 7 }, { packPage: 9, pack: IMAGE }],
    });
  });

  test('is refused when its digest is not the one of the manifest', async () => {
    await makeMap(sound);
    const path = join(directory, 'map');
    const other = { path, digest: hash('sha256', 'another'), sizeBytes: 3 * PAGE };
    expectRefused(() => readMap(other, 1), path, 'digest differs');
  });

  test.each<[string, Buffer, string]>([
    ['is cut off', sound.subarray(0, sound.length - 3), 'cannot be decoded'],
    ['is empty', Buffer.alloc(0), 'not a page map'],
    ['has content of an impossible length', withContent(Buffer.alloc(1024 ** 2)), 'impossible'],
    ['is a bomb', withContent(Buffer.alloc(1024 ** 3), 40), 'cannot be decoded'],
    ['counts more than it has', withContent(words(0xffffffff, 0)), 'length is wrong'],
    ['reaches beyond the file', withContent(words(1, 0, 2, 2, 0, 0)), 'out of place'],
    ['has an extent twice', withContent(words(2, 0, 0, 1, 0, 0, 0, 1, 0, 0)), 'out of place'],
    ['names a pack that there is not', withContent(words(1, 0, 0, 1, 1, 0)), 'out of place'],
    ['has no digest for the image', withContent(words(1, 0, 0, 1, IMAGE, 0)), 'pages from the image'],
  ])('is refused when it %s', async (_, content, problem) => {
    expectRefused(await makeMap(content), join(directory, 'map'), problem);
  });
});

describe('a manifest', () => {
  async function manifest(): Promise<UvmManifest> {
    const { description } = await makeDraft(directory, 'a', []);
    const file = { sizeBytes: 1, map: hash('sha256', 'map'), pages: 1, imagePages: 0, newPages: 1 };
    return { ...description, files: { ram: file, disk: file, state: file }, packs: [], addedBytes: 1 };
  }

  test.each<[string, (sound: UvmManifest) => unknown]>([
    ['a pack outside of the cache', (sound) => ({ ...sound, packs: ['../../../../etc/passwd'] })],
    ['a pack by its path', (sound) => ({ ...sound, packs: [`/${'a'.repeat(63)}`] })],
    ['a key that is a path', (sound) => ({ ...sound, key: '../escaped' })],
    [
      'a map outside of the cache',
      (sound) => ({ ...sound, files: { ...sound.files, ram: { ...sound.files.ram, map: '../x' } } }),
    ],
    [
      'a negative size',
      (sound) => ({ ...sound, files: { ...sound.files, ram: { ...sound.files.ram, sizeBytes: -1 } } }),
    ],
    [
      'a fraction of a byte',
      (sound) => ({ ...sound, files: { ...sound.files, ram: { ...sound.files.ram, sizeBytes: 0.5 } } }),
    ],
    ['more packs than it may', (sound) => ({ ...sound, packs: Array(70_000).fill(hash('sha256', 'x')) })],
    ['something unknown', (sound) => ({ ...sound, run: '/bin/sh' })],
  ])('is refused with %s, though its digest is right', async (_, change) => {
    const text = serialiseManifest(change(await manifest()) as UvmManifest);
    expectRefused(() => parseManifest(text, 'it'), 'it', 'it is damaged');
  });

  test('is refused when it is endlessly deep', () => {
    const deep = `${'['.repeat(2_000_000)}${']'.repeat(2_000_000)}`;
    const text = `{"format": "prebake-uvm", "version": 4, "digest": "${hash('sha256', '')}", "uvm": ${deep}}`;
    expectRefused(() => parseManifest(text, 'it'), 'it', 'it is damaged');
  });

  test('is refused when it is cut off, or its digest is of another', async () => {
    const text = serialiseManifest(await manifest());
    expect(parseManifest(text, 'it')).toEqual(
      await manifest().then((one) => ({ ...one, bakedAt: expect.anything() as string })),
    );
    for (let length = 0; length < text.length - 1; length += 97) {
      expectRefused(() => parseManifest(text.slice(0, length), 'it'), 'it', 'it is damaged');
    }
    expectRefused(
      () => parseManifest(text.replace('"memoryMb": 256', '"memoryMb": 9999'), 'it'),
      'it',
      'digest differs',
    );
  });
});
