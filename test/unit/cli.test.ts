import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { BakeError, type BakeFailure, type BakeOptions } from '../../lib/bake';
import { waterfall } from '../../lib/cli/waterfall';
import { BakeProgressView } from '../../lib/cli/bake-progress';
import type { Bakery, Cache, HoardAccess, Host } from '../../lib/cli/host';
import { CommandError, EXIT, Output, formatBytes, formatMs, formatTable } from '../../lib/cli/output';
import { run } from '../../lib/cli/run';
import type { StoredKey } from '../../lib/hoard';
import type { CacheEntry, UvmManifest } from '../../lib/squirrel';

const IMAGE = {
  id: '5d8a2c0e-0000-4000-8000-000000000001',
  name: 'debian-12',
  diskFormat: 'qcow2',
  containerFormat: 'bare',
  sizeBytes: 1000,
  minDiskGb: 0,
  minRamMb: 0,
  checksum: null,
  properties: {},
};

function manifest(key: string): UvmManifest {
  const file = { sizeBytes: 4096, map: 'a'.repeat(64), pages: 1, imagePages: 0, newPages: 1 };
  return {
    key,
    image: { id: IMAGE.id, checksum: null },
    platform: {
      virtType: 'qemu',
      machineType: 'pc-i440fx-7.2',
      cpuModel: 'qemu64',
      qemuMajorVersion: 7,
      firmware: 'bios',
      layoutVersion: 1,
      maxVcpus: 16,
      maxMemoryMb: 65536,
    },
    memoryMb: 512,
    gateVersion: 'f'.repeat(64),
    bakedAt: '2026-11-20T10:00:00.000Z',
    bakeMs: 95_000,
    files: { ram: file, disk: file, state: file },
    packs: [],
    addedBytes: 3 * 1024 * 1024,
  };
}

const USAGE = {
  zeroBytes: 1024 * 1024,
  imageBytes: 2 * 1024 * 1024,
  sharedBytes: 3 * 1024 * 1024,
  ownBytes: 4 * 1024 * 1024,
  ownStoredBytes: 7 * 1024,
};
const OK = 'ab12'.padEnd(64, '0');
const BAD = 'ab13'.padEnd(64, '0');
const FOREIGN = 'cd12'.padEnd(64, '0');
const ENTRIES: CacheEntry[] = [
  { state: 'ok', key: OK, manifest: manifest(OK) },
  { state: 'unreadable', key: BAD, reason: 'x/manifest.json is damaged: not JSON' },
];

/** A command's whole world, in memory; what the command did is recorded. */
class World {
  stdout = '';
  stderr = '';
  removed: string[] = [];
  closed = 0;
  entries = ENTRIES;
  failures: BakeFailure[] = [];
  found: UvmManifest | undefined;
  /** In the object store; undefined when µVMs are not shared. */
  stored: StoredKey[] | undefined;
  transferred: string[] = [];
  transfer = (key: string): Promise<{ key: string; totalBytes: number; sentBytes: number } | 'there'> =>
    Promise.resolve({ key, totalBytes: 4096, sentBytes: 1024 });
  sidecarUrl = 'http://127.0.0.1:1';
  configFiles: readonly string[] = [];
  configError: Error | undefined;
  readonly abort = new AbortController();
  bake = (_options?: BakeOptions): Promise<UvmManifest> => Promise.resolve(manifest(OK));

  run(...args: string[]): Promise<number> {
    const cache: Cache = {
      list: () => Promise.resolve(this.entries),
      find: () => Promise.resolve(this.found),
      usage: () => Promise.resolve({ ram: USAGE, disk: USAGE, state: USAGE }),
      gc: () =>
        Promise.resolve({ storedBytes: 5 * 1024 * 1024, freedBytes: 2 * 1024 * 1024, rewrittenPacks: 3 }),
      remove: (key) => {
        this.removed.push(key);
        return Promise.resolve();
      },
      verify: (key) =>
        Promise.resolve({
          key,
          pages: 3,
          problems: key === BAD ? ['packs/1 is damaged: page 7 differs'] : [],
        }),
      close: () => {
        this.closed++;
        return Promise.resolve();
      },
    };
    const bakery: Bakery & { cache: Cache } = {
      cache,
      baker: { bake: (_image, options) => this.bake(options), keyOf: () => Promise.resolve(OK) },
      findImage: () => Promise.resolve(IMAGE),
      close: () => cache.close(),
    };
    const fetched = async (key: string) => {
      this.transferred.push(key);
      const transfer = await this.transfer(key);
      return transfer === 'there' ? transfer : { ...transfer, manifest: manifest(key) };
    };
    const hoard: HoardAccess = {
      cache,
      stored: () => Promise.resolve(this.stored ?? []),
      fetch: ({ key }) => fetched(key),
      send: (key) => fetched(key),
      keysOfImages: () => Promise.resolve([OK]),
      keyOfImage: () => Promise.resolve({ imageId: IMAGE.id, key: OK }),
      close: () => cache.close(),
    };
    return run(args, {
      version: '1.2.3',
      signal: this.abort.signal,
      openDoctor: () => Promise.reject(new Error('not in this test')),
      defaultConfigFiles: () => Promise.resolve(['/etc/nova/nova.conf']),
      output: new Output(
        { write: (text) => (this.stdout += text) },
        { write: (text) => (this.stderr += text) },
      ),
      openHost: (configFiles): Promise<Host> => {
        this.configFiles = configFiles;
        if (this.configError !== undefined) return Promise.reject(this.configError);
        return Promise.resolve({
          name: 'compute-1',
          configFiles,
          sidecarUrl: this.sidecarUrl,
          openCache: () => Promise.resolve(cache),
          bakeFailures: () => Promise.resolve(this.failures),
          openHoard: () => Promise.resolve(hoard),
          storedKeys: () => Promise.resolve(this.stored),
          openBakery: () => Promise.resolve(bakery),
        });
      },
    });
  }
}

let world: World;
beforeEach(() => (world = new World()));

describe('prebake', () => {
  test('help teaches by example', async () => {
    expect(await world.run('--help')).toBe(0);
    expect(world.stdout).toContain('prebake bake debian-12');
    expect(world.stdout).toContain('Exit codes:');
  });

  test('tells its version', async () => {
    expect(await world.run('--version')).toBe(0);
    expect(world.stdout).toBe('1.2.3\n');
  });

  test.each([['no-such-command'], ['bake'], ['cache', 'ls', '--frob']])('refuses %s', async (...args) => {
    expect(await world.run(...args)).toBe(2);
    expect(world.stderr).toContain('error:');
  });

  test('reads the files it is given, in order, else those of nova-compute', async () => {
    await world.run('--config-file', '/a', '--config-file', '/b', 'config', 'check');
    expect(world.configFiles).toEqual(['/a', '/b']);
    expect(await world.run('config', 'check')).toBe(0);
    expect(world.stdout).toContain("The configuration of host 'compute-1' is right: /etc/nova/nova.conf\n");
  });
});

test('prebake config-docs prints the reference of options without any configuration', async () => {
  world.configError = new CommandError('must not be read');
  expect(await world.run('config-docs')).toBe(0);
  expect(world.stdout).toMatch(/^# Configuration\n[^]*## \[prebake\]/);
});

describe('prebake bake', () => {
  test('prints a line per step where there is no terminal, and the result', async () => {
    world.bake = (options) => {
      options?.onProgress?.({ imageId: IMAGE.id, phase: 'boot', elapsedMs: 0 });
      options?.onProgress?.({ imageId: IMAGE.id, phase: 'store', percent: 1, elapsedMs: 90_000 });
      options?.onProgress?.({ imageId: IMAGE.id, phase: 'store', percent: 2, elapsedMs: 91_000 });
      return Promise.resolve(manifest(OK));
    };
    expect(await world.run('bake', 'debian-12')).toBe(0);
    expect(world.stderr).toBe('[1/5] booting the image (after 0 ms)\n[5/5] storing pages (after 90.0 s)\n');
    expect(world.stdout).toBe(
      'Baked debian-12 in 95.0 s: µVM ab1200000000, 512 MiB of memory, 3.0 MiB added to the cache\n',
    );
    expect(world.closed).toBe(1);
  });

  test('does not bake twice', async () => {
    world.found = manifest(OK);
    world.bake = () => Promise.reject(new Error('must not be called'));
    expect(await world.run('bake', 'debian-12', '--json')).toBe(0);
    expect(JSON.parse(world.stdout)).toMatchObject({ wasThere: true, key: OK });
  });

  test('fails in one line that says where and why, and cleans up', async () => {
    world.bake = () => Promise.reject(new BakeError(IMAGE.id, 'boot', 'no sign of life after 900 s'));
    expect(await world.run('bake', 'debian-12')).toBe(1);
    expect(world.stderr).toBe(
      `prebake: baking image ${IMAGE.id} failed (boot): no sign of life after 900 s\n`,
    );
    expect(world.closed).toBe(1);
  });

  test('ends when interrupted, after the bake has cleaned up', async () => {
    world.bake = (options) =>
      new Promise((_resolve, reject) => {
        options?.signal?.addEventListener('abort', () => reject(new Error('aborted')));
        world.abort.abort();
      });
    expect(await world.run('bake', 'debian-12')).toBe(130);
    expect(world.closed).toBe(1);
  });
});

describe('prebake cache', () => {
  test('lists sound and unreadable µVMs', async () => {
    expect(await world.run('cache', 'ls')).toBe(0);
    expect(world.stdout).toMatch(/^KEY +STATE +WHERE +IMAGE +MEMORY +BAKED +STORED\n/);
    expect(world.stdout).toMatch(/^ab1200000000 {2}ok +here +5d8a2c0e.* 512 MiB .* 3\.0 MiB$/m);
    expect(world.stdout).toMatch(/^ab1300000000 {2}unreadable .*manifest\.json is damaged: not JSON$/m);
  });

  test('lists images whose bake failed, with the reason and when it is tried again', async () => {
    world.failures = [
      {
        key: 'cd'.repeat(32),
        imageId: 'image-2',
        phase: 'boot',
        reason: 'the image has no cloud-init',
        attempts: 2,
        failedAt: '2026-11-20T11:00:00.000Z',
        retryAt: '2026-11-20T11:40:00.000Z',
      },
    ];
    await world.run('cache', 'ls');
    expect(world.stdout).toMatch(
      /^cdcdcdcdcdcd {2}failed +image-2 .*the image has no cloud-init \(next try after 2026-11-20T11:40:00.000Z, 2 times in a row\)$/m,
    );
    world.stdout = '';
    await world.run('cache', 'ls', '--json');
    expect(JSON.parse(world.stdout)).toMatchObject([{}, {}, { state: 'failed', imageId: 'image-2' }]);
  });

  test('tells what is in the object store, too', async () => {
    world.stored = [OK, BAD, FOREIGN].map((key) => ({ key, imageId: IMAGE.id }));
    await world.run('cache', 'ls');
    expect(world.stdout).toMatch(/^ab1200000000 {2}ok +here, store +5d8a2c0e/m);
    expect(world.stdout).toMatch(/^cd1200000000 +store +5d8a2c0e/m);
    world.stdout = '';
    await world.run('cache', 'ls', '--json');
    expect(JSON.parse(world.stdout)).toEqual([
      expect.objectContaining({ key: OK, where: ['here', 'store'] }),
      expect.objectContaining({ key: BAD, where: ['here', 'store'] }),
      { key: FOREIGN, imageId: IMAGE.id, state: 'stored', where: ['store'] },
    ]);
  });

  test('pulls what fits this host, or what is named', async () => {
    world.stored = [OK, FOREIGN].map((key) => ({ key, imageId: IMAGE.id }));
    expect(await world.run('cache', 'pull')).toBe(0);
    expect(world.transferred).toEqual([OK]);
    expect(world.stdout).toMatch(
      /^ab1200000000 {2}image 5d8a.*: pulled in .*, 1\.0 KiB of 4\.0 KiB had to be sent$/m,
    );
    await world.run('cache', 'pull', 'cd12', 'debian-12');
    expect(world.transferred).toEqual([OK, FOREIGN, OK]);
    expect(await world.run('cache', 'pull', 'cd12', '--json')).toBe(0);
    expect(world.closed).toBe(3);
  });

  test('pushes what is sound; one that fails does not keep the others, but is told', async () => {
    world.entries = [OK, FOREIGN].map((key) => ({ state: 'ok', key, manifest: manifest(key) }));
    world.transfer = (key) =>
      key === OK ? Promise.reject(new Error('the store is away')) : Promise.resolve('there');
    expect(await world.run('cache', 'push', '--json')).toBe(1);
    expect(JSON.parse(world.stdout)).toEqual([
      expect.objectContaining({ key: OK, outcome: 'failed', error: 'the store is away' }),
      expect.objectContaining({ key: FOREIGN, outcome: 'there' }),
    ]);
    expect(world.stderr).toBe('prebake: 1 of 2 µVMs were not pushed\n');
  });

  test('a transfer that is interrupted says that it can go on', async () => {
    world.stored = [{ key: OK, imageId: IMAGE.id }];
    world.transfer = () => {
      world.abort.abort();
      return Promise.reject(new Error('aborted'));
    };
    expect(await world.run('cache', 'pull')).toBe(130);
    expect(world.stderr).toContain('goes on from there');
  });

  test('an empty cache says what to do', async () => {
    world.entries = [];
    await world.run('cache', 'ls');
    expect(world.stdout).toContain('prebake bake IMAGE');
  });

  test('shows one by the beginning of its key', async () => {
    expect(await world.run('cache', 'show', 'ab12')).toBe(0);
    expect(world.stdout).toMatch(/^image +5d8a2c0e/m);
    expect(world.stdout).toMatch(/^platform +qemu, pc-i440fx-7\.2/m);
    expect(world.stdout).toMatch(/IN THE IMAGE +SHARED +OWN/);
    expect(world.stdout).toMatch(/ram +1\.0 MiB +2\.0 MiB +3\.0 MiB +4\.0 MiB +7\.0 KiB/);
  });

  test('cache gc says what it freed', async () => {
    expect(await world.run('cache', 'gc')).toBe(0);
    expect(world.stdout).toBe('freed 2.0 MiB, 3 packs written anew; 5.0 MiB are stored\n');
  });

  test.each([
    ['an unknown key', ['show', 'ffff'], 1],
    ['something that is no key', ['show', '../x'], 2],
    ['too short a key', ['rm', 'ab'], 2],
  ])('refuses %s', async (_what, args, code) => {
    expect(await world.run('cache', ...args)).toBe(code);
    expect(world.stderr).toMatch(/^prebake: .*prebake cache ls/);
  });

  test('removes all or, when a name is wrong, nothing', async () => {
    expect(await world.run('cache', 'rm', 'ab12', 'ffff')).toBe(1);
    expect(world.removed).toEqual([]);
    expect(await world.run('cache', 'rm', 'ab12', 'ab13')).toBe(0);
    expect(world.removed).toEqual([OK, BAD]);
  });

  test('verification names what is damaged and fails', async () => {
    expect(await world.run('cache', 'verify')).toBe(1);
    expect(world.stdout).toContain('ab1200000000  ok, 3 pages\n');
    expect(world.stdout).toContain('    packs/1 is damaged: page 7 differs\n');
    expect(world.stderr).toContain('1 of 2 µVMs damaged');
    expect(await world.run('cache', 'verify', 'ab12')).toBe(0);
  });
});

describe('prebake boots', () => {
  const boot = {
    instanceUuid: 'u-1',
    imageId: 'i-1',
    startedAt: '2026-11-20T10:00:00.000Z',
    how: 'uvm',
    why: null,
    outcome: 'ready',
    error: null,
    spans: [{ name: 'network', startMs: 0, endMs: 400 }],
    marks: [
      { name: 'running', atMs: 520 },
      { name: 'ready', atMs: 2100 },
    ],
  };
  const server = createServer((_request, response) => response.end(JSON.stringify({ boots: [boot] })));
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => server.close());
  beforeEach(() => (world.sidecarUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`));

  test('lists them', async () => {
    expect(await world.run('boots')).toBe(0);
    expect(world.stdout).toMatch(/u-1 +uvm +520 ms +- +2\.10 s +ready$/m);
  });

  test('draws one', async () => {
    expect(await world.run('boots', 'u-1')).toBe(0);
    expect(world.stdout).toMatch(/^network +400 ms {2}█+$/m);
    expect(world.stdout).toMatch(/^= ready +2\.10 s {2}─+│$/m);
  });

  test('says so when the server is not known', async () => {
    expect(await world.run('boots', 'u-2')).toBe(1);
    expect(world.stderr).toBe('prebake: the service remembers no boot of server u-2\n');
  });

  test('says so when the service does not run', async () => {
    world.sidecarUrl = 'http://127.0.0.1:1';
    expect(await world.run('boots')).toBe(1);
    expect(world.stderr).toContain('is prebake-compute running?');
  });
});

test('a wrong configuration is a usage error', async () => {
  world.configError = new CommandError('[prebake] base_memory_mb = many: expected a number', EXIT.usage);
  expect(await world.run('config', 'check')).toBe(2);
  expect(world.stderr).toBe('prebake: [prebake] base_memory_mb = many: expected a number\n');
});

test('progress on a terminal redraws one line no longer than the terminal', () => {
  let text = '';
  const view = new BakeProgressView({ write: (part) => (text += part), isTTY: true, columns: 40 });
  view.update({ imageId: 'i', phase: 'capture', percent: 50, elapsedMs: 60_000 });
  view.stop();
  const drawn = text.split('\r\x1b[K').filter((line) => line !== '');
  expect(drawn).toEqual([expect.stringMatching(/^█{11}░{10} capturing memory/)]);
  expect((drawn[0] ?? '').length).toBeLessThan(40);
  expect(text.endsWith('\r\x1b[K')).toBe(true);
});

test('a waterfall stays in its width and in order', () => {
  const lines = waterfall(
    {
      spans: [
        { name: 'late', startMs: 900, endMs: 1000 },
        { name: 'early', startMs: 0, endMs: 10 },
      ],
      marks: [{ name: 'active', atMs: 1000 }],
    },
    60,
  );
  expect(lines.map((line) => line.split(/\s{2,}/)[0])).toEqual(['early', 'late', '= active']);
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(60);
});

test('control characters of a name do not reach the terminal', () => {
  expect(formatTable(['A'], [['x\x1b[2Jy']])).toBe('A\nx?[2Jy');
});

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1536, '1.5 KiB'],
  [5 * 1024 ** 3, '5.0 GiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0, '0 ms'],
  [999.4, '999 ms'],
  [1234, '1.23 s'],
  [94_000, '94.0 s'],
  [125_000, '2 min 05 s'],
])('%d ms are %s', (ms, text) => {
  expect(formatMs(ms)).toBe(text);
});
