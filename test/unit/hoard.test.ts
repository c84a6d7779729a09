/** Sharing µVMs through an object store: what is sent and fetched, claims, and what is refused. */
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BakeFailures } from '../../lib/bake';
import { collectStore, Pace, SEGMENT_BYTES, type StoredKey, Supply } from '../../lib/hoard';
import { ObjectRefused, type ObjectStore } from '../../lib/openstack';
import { FakeSwift } from '../support/fake-swift';
import { HoardingHost, keyOfMade, openObjects, shareThrough, silent } from '../support/hoard';

jest.setTimeout(120_000);

let directory: string;
let swift: FakeSwift;
let objects: ObjectStore;
let here: HoardingHost;
let there: HoardingHost;
/** Two µVMs that `here` has; the second has pages in the first's pack. */
let uvm: StoredKey;
let other: StoredKey;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'hoard-'));
  swift = await FakeSwift.start();
  objects = openObjects(swift.url);
  here = await HoardingHost.open(directory, 'here', objects);
  there = await HoardingHost.open(directory, 'there', objects);
  uvm = await here.make(directory, 'a', 2100);
  other = await here.make(directory, 'b', 20);
});
afterEach(async () => {
  swift.reset();
  for (const { key } of await there.squirrel.list()) await there.squirrel.remove(key);
  await there.squirrel.forgetAllBut(new Set());
});
afterAll(async () => {
  await here.squirrel.close();
  await there.squirrel.close();
  await swift.stop();
  await rm(directory, { recursive: true, force: true });
});

const entryOf = ({ imageId, key }: StoredKey): string => `uvms/${imageId}/${key}`;
const segments = (): string[] => swift.names.filter((name) => name.startsWith('segments/'));

describe('a µVM', () => {
  test('goes to the store and comes to another host whole; neither way anything goes twice', async () => {
    const sent = await here.push(uvm);
    expect(sent?.sentBytes).toBe(sent?.totalBytes);
    expect(await here.push(uvm)).toBeUndefined();

    const pulled = await there.pull(uvm);
    expect(pulled?.sentBytes).toBe(sent?.totalBytes);
    expect(await there.squirrel.find(uvm.key)).toEqual(await here.squirrel.find(uvm.key));
    expect((await there.squirrel.verify(uvm.key)).problems).toEqual([]);
    await there.squirrel.materialise(uvm.key);
    expect(await readdir(join(there.directory, 'incoming'))).toEqual(['lock']);
    expect(await readdir(join(there.directory, 'staging'))).toEqual([]);

    const fetched = swift.count('GET', 'segments/');
    expect((await there.pull(uvm))?.sentBytes).toBe(0);
    expect(swift.count('GET', 'segments/')).toBe(fetched);

    // The second has pages in the first's pack, which is on both sides already.
    const puts = swift.count('PUT', 'segments/');
    const added = await here.push(other);
    expect(added?.sentBytes).toBeLessThan(500_000);
    expect(swift.count('PUT', 'segments/') - puts).toBeLessThan(8);
    expect((await there.pull(other))?.sentBytes).toBe(added?.sentBytes);
    expect((await there.squirrel.verify(other.key)).problems).toEqual([]);
  });

  test('is not there for others before its entry is, and a broken upload goes on where it was', async () => {
    let puts = 0;
    swift.fault = ({ method, name }) =>
      method === 'PUT' && name.startsWith('segments/') && (puts += 1) > 2 ? 507 : undefined;
    await expect(here.push(uvm)).rejects.toThrow('507');
    expect(await there.pull(uvm)).toBeUndefined();
    const before = segments().length;
    expect(before).toBe(2);
    swift.fault = undefined;
    const sent = await here.push(uvm);
    expect(sent?.sentBytes).toBe((sent?.totalBytes ?? 0) - before * SEGMENT_BYTES);
  });

  test('whose fetch is cut off keeps what came', async () => {
    const sent = await here.push(uvm);
    let gets = 0;
    swift.fault = ({ method, name }) =>
      method === 'GET' && name.startsWith('segments/') && (gets += 1) > 2 ? 500 : undefined;
    await expect(there.pull(uvm)).rejects.toThrow('500');
    expect(await there.squirrel.find(uvm.key)).toBeUndefined();
    swift.fault = undefined;
    const pulled = await there.pull(uvm);
    expect(pulled?.sentBytes).toBe((sent?.totalBytes ?? 0) - 2 * SEGMENT_BYTES);
    expect((await there.squirrel.verify(uvm.key)).problems).toEqual([]);
  });

  test('that is damaged here is mended with what the store has', async () => {
    await here.push(uvm);
    const pack = (await here.squirrel.find(uvm.key))?.packs[0] ?? '';
    const path = join(here.directory, 'packs', `${pack}.pack`);
    const { size } = await stat(path);
    await truncate(path, size - 1);
    await truncate(path, size);
    await expect(here.squirrel.materialise(uvm.key)).rejects.toThrow('damaged');
    expect(await here.squirrel.find(uvm.key)).toBeUndefined();
    expect(await here.pull(uvm)).toBeDefined();
    expect((await here.squirrel.verify(uvm.key)).problems).toEqual([]);
    await here.squirrel.materialise(uvm.key);
  });
});

describe('the store cannot make a host take', () => {
  beforeEach(async () => {
    await here.push(uvm);
    await here.push(other);
  });

  /** Changes an object, and expects it to be refused by name, with nothing left of it. */
  async function refuses(
    name: string,
    change: (content: Buffer) => Buffer,
    why: RegExp | string,
    by = name,
  ): Promise<void> {
    const kept = swift.objects.get(name);
    if (kept === undefined) throw new Error(`no object ${name}`);
    const { content } = kept;
    kept.content = change(Buffer.from(content));
    const failure = await there.pull(uvm).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(ObjectRefused);
    expect(failure).toMatchObject({ objectName: by });
    expect((failure as Error).message).toMatch(why);
    expect(await there.squirrel.list()).toEqual([]);
    expect(await readdir(join(there.directory, 'packs'))).toEqual([]);
    expect(await readdir(join(there.directory, 'staging'))).toEqual([]);
    kept.content = content;
  }
  const changed = (change: (entry: Entry) => void) => (content: Buffer) => {
    const entry = JSON.parse(content.toString()) as Entry;
    change(entry);
    return Buffer.from(JSON.stringify(entry));
  };
  interface Entry {
    version: number;
    manifest: string;
    files: { kind: string; id: string; sizeBytes: number; segments: string[] }[];
  }
  const segmentOf = (kind: string): string => {
    const entry = JSON.parse(swift.objects.get(entryOf(uvm))?.content.toString() ?? '') as Entry;
    const packs = entry.files.filter((file) => file.kind === kind);
    return `segments/${packs.at(-1)?.segments[0] ?? ''}`;
  };

  test('truncated, bit-flipped, swapped or oversized segments', async () => {
    const name = segmentOf('pack');
    await refuses(name, (content) => content.subarray(0, content.length - 1), 'bytes, not');
    await refuses(
      name,
      (content) => {
        content.writeUInt8(content.readUInt8(5000) ^ 1, 5000);
        return content;
      },
      'content is not what its name says',
    );
    await refuses(name, (content) => Buffer.concat([content, content]), 'larger than');
    const foreign = swift.objects.get(segmentOf('map'))?.content ?? Buffer.alloc(0);
    await refuses(name, () => foreign, /bytes, not|content is not/);
    expect(await there.pull(uvm)).toBeDefined();
  });

  test('entries that are cut off, of another µVM, of another version, or endless', async () => {
    const name = entryOf(uvm);
    await refuses(name, (content) => content.subarray(0, content.length / 2), 'not JSON');
    await refuses(name, () => swift.objects.get(entryOf(other))?.content ?? Buffer.alloc(0), other.key);
    await refuses(
      name,
      changed((entry) => (entry.version = 9)),
      'version 9',
    );
    await refuses(
      name,
      changed((entry) => (entry.manifest = entry.manifest.replace('qemu64', 'qemu65'))),
      'digest',
    );
    await refuses(name, () => Buffer.alloc(17 * 1024 ** 2, ' '), 'larger than');
    await refuses(
      name,
      changed((entry) => entry.files.pop()),
      'does not have',
    );
  });

  test('a µVM whose key is not that of what it says of itself', async () => {
    const kept = swift.objects.get(entryOf(uvm));
    const entry = JSON.parse(kept?.content.toString() ?? '') as Entry;
    const manifest = JSON.parse(entry.manifest) as { digest: string; uvm: { memoryMb: number } };
    manifest.uvm.memoryMb = 1024;
    manifest.digest = createHash('sha256').update(JSON.stringify(manifest.uvm)).digest('hex');
    entry.manifest = JSON.stringify(manifest);
    await refuses(entryOf(uvm), () => Buffer.from(JSON.stringify(entry)), 'key is not that of what it says');
  });

  test('names that lead elsewhere, and sizes that fill the disk', async () => {
    const name = entryOf(uvm);
    const first = (change: (file: Entry['files'][number]) => void) =>
      changed((entry) => {
        const [file] = entry.files;
        if (file !== undefined) change(file);
      });
    await refuses(
      name,
      first((file) => (file.id = '../../../../etc/passwd')),
      'files',
    );
    await refuses(
      name,
      first((file) => (file.segments[0] = '../uvms')),
      'segments',
    );
    await refuses(
      name,
      first((file) => (file.sizeBytes = 2 ** 50)),
      'do not make up its size',
    );
    await refuses(
      name,
      first((file) => (file.sizeBytes += SEGMENT_BYTES)),
      'do not make up its size',
    );
  });

  test('page maps that are too large, more files than it needs, and more bytes than such a µVM could have', async () => {
    const name = entryOf(uvm);
    const gets = swift.count('GET', 'segments/');
    const inflate = (kind: string, count: number) =>
      changed((entry) => {
        const file = entry.files.find((one) => one.kind === kind);
        if (file === undefined) return;
        // The same segment again and again: small in the store, and here as large as it says.
        file.segments = Array<string>(count).fill(file.segments[0] ?? '');
        file.sizeBytes = count * SEGMENT_BYTES;
      });
    await refuses(name, inflate('map', 25), 'too large for a page map');
    await refuses(name, inflate('pack', 2000), 'more than the');
    await refuses(
      name,
      changed((entry) => entry.files.push(...entry.files)),
      'files twice',
    );
    await refuses(
      name,
      changed((entry) =>
        entry.files.push({ kind: 'pack', id: 'f'.repeat(64), sizeBytes: 1, segments: ['f'.repeat(64)] }),
      ),
      'others than its manifest names',
    );
    await refuses(name, () => Buffer.from('['.repeat(8 * 1024 ** 2)), 'not JSON');
    expect(swift.count('GET', 'segments/')).toBe(gets);
  });

  test('a pack that has other pages than its index says, though all digests of its segments are right', async () => {
    const name = entryOf(uvm);
    await refuses(
      name,
      changed((entry) => {
        const file = entry.files.find((one) => one.kind === 'pack');
        const digest = file?.segments[0] ?? '';
        const content = Buffer.from(swift.objects.get(`segments/${digest}`)?.content ?? Buffer.alloc(0));
        content.writeUInt8(content.readUInt8(5000) ^ 1, 5000);
        const wrong = createHash('sha256').update(content).digest('hex');
        const expiresAtMs = Infinity;
        swift.objects.set(`segments/${wrong}`, { content, modifiedAtMs: Date.now(), expiresAtMs });
        if (file !== undefined) file.segments[0] = wrong;
      }),
      'damaged',
    );
  });
});

describe('claims', () => {
  test('are one host’s until it releases them, or dies', async () => {
    const [first, second] = [shareThrough(objects, 'first').claims, shareThrough(objects, 'second').claims];
    const claims = await Promise.all([first.take('x'), first.take('x'), second.take('x')]);
    expect(claims.filter((claim) => claim !== undefined)).toHaveLength(1);
    await claims.find((claim) => claim !== undefined)?.release();
    const again = await second.take('x');
    expect(again).toBeDefined();
    expect(await first.holder('x')).toBe('second');
    // The second dies: nobody renews.
    swift.passTime(91_000);
    const takenOver = await Promise.all([first.take('x'), first.take('x')]);
    expect(takenOver.filter((claim) => claim !== undefined)).toHaveLength(1);
    // Who is slow must not release what is another's.
    await again?.release();
    expect(await second.holder('x')).toBe('first');
    await takenOver.find((claim) => claim !== undefined)?.release();
  });
});

describe('supply', () => {
  const image = {
    id: randomUUID(),
    diskFormat: 'qcow2',
    containerFormat: 'bare',
    sizeBytes: 1,
    minDiskGb: 0,
    minRamMb: 0,
    checksum: null,
    properties: {},
  };
  function supplyOf(host: HoardingHost, bakes: string[]): Supply {
    return new Supply({
      squirrel: host.squirrel,
      shared: host.shared,
      logger: silent,
      claimPollMs: 20,
      announce: () => Promise.resolve(),
      meter: { hoardBytes: () => undefined, hoardEnded: () => undefined },
      baker: {
        failures: new BakeFailures(directory),
        keyOf: () => Promise.resolve(keyOfMade(image.id)),
        bake: async () => {
          bakes.push(host.directory);
          const { key } = await host.make(directory, 'c', 5, image.id);
          const manifest = await host.squirrel.find(key);
          if (manifest === undefined) throw new Error('not made');
          return manifest;
        },
      },
    });
  }

  test('has one host bake what all want at the same time; without the store each for itself', async () => {
    const bakes: string[] = [];
    const supplies = [supplyOf(here, bakes), supplyOf(there, bakes)];
    const manifests = await Promise.all(supplies.map((supply) => supply.bake(image)));
    expect(bakes).toHaveLength(1);
    expect(manifests[0]?.bakedAt).toBe(manifests[1]?.bakedAt);
    for (const supply of supplies) await supply.close();

    swift.fault = () => 403;
    const alone = supplyOf(there, bakes);
    expect(await alone.bake(image)).toBeDefined();
    expect(bakes).toHaveLength(2);
    await alone.close();
  });
});

describe('what no µVM needs', () => {
  test('leaves the store after the grace period, but not under a sender’s hands', async () => {
    await here.push(uvm);
    await here.push(other);
    const { store } = here.shared;
    const all = segments();
    await store.removeEntry(other);
    expect(await collectStore(store, silent)).toMatchObject({ removedSegments: 0 });
    expect(segments()).toEqual(all);

    // Sent again while it is garbage: counts as new.
    const puts = swift.count('PUT', 'segments/');
    await here.push(other);
    expect(swift.count('PUT', 'segments/')).toBeGreaterThan(puts);
    swift.passTime(25 * 3600_000);
    expect(await collectStore(store, silent)).toMatchObject({ removedSegments: 0 });

    await store.removeEntry(other);
    await collectStore(store, silent);
    swift.passTime(25 * 3600_000);
    expect((await collectStore(store, silent)).removedSegments).toBeGreaterThan(0);
    expect(segments().length).toBeLessThan(all.length);
    expect(await there.pull(uvm)).toBeDefined();
  });
});

test('a pace lets a little through at once and makes the rest wait', async () => {
  const pace = new Pace(1_000_000);
  await pace.pass(100_000);
  const ended = new AbortController();
  const waiting = pace.pass(1_000_000_000, ended.signal);
  ended.abort(new Error('given up'));
  await expect(waiting).rejects.toThrow('given up');
  await new Pace(0).pass(1_000_000_000_000);
});
