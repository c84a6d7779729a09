/** Sizes, traits, memory, console logs and base images: the driver's arithmetic and its files, without a hypervisor. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import type { FlavorSpec, ImageSpec } from '../../drivers/driver';
import { readConsoleLog } from '../../drivers/libvirt/console-log';
import { writeConfigDrive } from '../../drivers/libvirt/config-drive';
import { cpuTraits } from '../../drivers/libvirt/cpu-traits';
import { parseMemory } from '../../drivers/libvirt/host-resources';
import { ImageCache, type ImageSource } from '../../drivers/libvirt/image-cache';
import { rootSizeBytes } from '../../drivers/libvirt/local-disks';
import { isConnectionLoss, toException } from '../../drivers/libvirt/libvirt-error';
import {
  FlavorDiskSmallerThanImage,
  FlavorMemoryTooSmall,
  HypervisorUnavailable,
  InstanceNotFound,
} from '../../lib/exceptions';

const GIB = 1024 ** 3;
const FLAVOR: FlavorSpec = {
  name: 'f',
  vcpus: 1,
  memoryMb: 512,
  rootGb: 2,
  ephemeralGb: 0,
  swapMb: 0,
  extraSpecs: {},
};
const IMAGE: ImageSpec = {
  id: 'i',
  diskFormat: 'raw',
  containerFormat: 'bare',
  sizeBytes: 4,
  minDiskGb: 0,
  minRamMb: 0,
  checksum: null,
  properties: {},
};

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'prebake-unit-'));
});
afterEach(() => rm(directory, { recursive: true }));

describe('root disk', () => {
  const base = (virtualSizeBytes: number): Parameters<typeof rootSizeBytes>[2] => ({
    path: '',
    format: 'raw',
    virtualSizeBytes,
  });

  test('is as large as the flavor says, or as the image when the flavor says 0', () => {
    expect(rootSizeBytes(FLAVOR, IMAGE, base(GIB))).toBe(2 * GIB);
    expect(rootSizeBytes(FLAVOR, IMAGE, base(2 * GIB))).toBe(2 * GIB);
    expect(rootSizeBytes({ ...FLAVOR, rootGb: 0 }, IMAGE, base(5 * GIB))).toBe(5 * GIB);
  });

  test('is refused when image or minimums are larger', () => {
    expect(() => rootSizeBytes(FLAVOR, IMAGE, base(2 * GIB + 1))).toThrow(FlavorDiskSmallerThanImage);
    expect(() => rootSizeBytes(FLAVOR, { ...IMAGE, minDiskGb: 3 }, base(GIB))).toThrow(
      FlavorDiskSmallerThanImage,
    );
    expect(() => rootSizeBytes(FLAVOR, { ...IMAGE, minRamMb: 513 }, base(GIB))).toThrow(FlavorMemoryTooSmall);
  });
});

test('features become traits, unknown ones nothing', () => {
  expect(cpuTraits(['sse4.2', 'svm', 'toString', 'rdtscp'])).toEqual([
    'HW_CPU_X86_AMD_SVM',
    'HW_CPU_X86_SSE42',
    'HW_CPU_X86_SVM',
  ]);
});

test('memory is counted as Nova counts it', () => {
  const meminfo =
    'MemTotal:        4096000 kB\nMemFree:  1024 kB\nMemAvailable: 9 kB\nBuffers: 1024 kB\nCached:  2048 kB\nSwapCached: 7 kB\n';
  expect(parseMemory(meminfo)).toEqual({ totalMb: 4000, usedMb: 3996 });
  expect(() => parseMemory('')).toThrow(/MemTotal/);
});

test('failures become the exceptions that callers decide by', () => {
  const raw = (code: number, domain: number): { code: number; domain: number; message: string } => ({
    code,
    domain,
    message: 'm',
  });
  expect(toException('call', raw(42, 10))).toBeInstanceOf(InstanceNotFound);
  expect(toException('call', raw(38, 7))).toBeInstanceOf(HypervisorUnavailable);
  expect(toException('call', raw(39, 13))).toBeInstanceOf(HypervisorUnavailable);
  expect(isConnectionLoss(raw(38, 10))).toBe(false);
  expect(toException('call', raw(55, 10))).toMatchObject({
    name: 'LibvirtError',
    code: 55,
    call: 'call',
    message: 'm',
  });
  expect(toException('call', null)).toMatchObject({ message: 'call failed without a reason' });
});

describe('console log', () => {
  test('its last lines are read, across rotated files', async () => {
    const path = join(directory, 'console.log');
    expect(await readConsoleLog(path, null)).toBe('');
    await writeFile(`${path}.0`, 'one\ntwo\n');
    await writeFile(path, 'three\nfour\n');
    expect(await readConsoleLog(path, null)).toBe('one\ntwo\nthree\nfour\n');
    expect(await readConsoleLog(path, 3)).toBe('three\nfour\n');
    await writeFile(path, 'three\nfour');
    expect(await readConsoleLog(path, 1)).toBe('four');
    expect(await readConsoleLog(path, 0)).toBe('');
  });

  test('no more than 100 KiB are read', async () => {
    const path = join(directory, 'console.log');
    await writeFile(path, 'x'.repeat(200 * 1024));
    expect(await readConsoleLog(path, null)).toHaveLength(100 * 1024);
  });
});

test.each(['../evil', '/etc/passwd', 'a/../../b', '', 'a\0b'])(
  'a config drive has no file %j',
  async (path) => {
    const file = { path, content: Buffer.from('x') };
    await expect(writeConfigDrive(join(directory, 'disk.config'), [file])).rejects.toThrow(RangeError);
    expect(await readdir(directory)).toEqual([]);
  },
);

describe('base images', () => {
  const never = new AbortController().signal;
  const cacheOf = (source: ImageSource): ImageCache =>
    new ImageCache(directory, source, { forceRaw: false, logger: pino({ level: 'silent' }) });

  test('are fetched once, and appear whole', async () => {
    let downloads = 0;
    const cache = cacheOf({
      download: async (_id, toPath) => {
        downloads += 1;
        await writeFile(toPath, 'disk');
      },
    });
    const [first, second] = await Promise.all([cache.ensure(IMAGE, never), cache.ensure(IMAGE, never)]);
    expect(first).toEqual({
      path: join(directory, '_base', '042dc4512fa3d391c5170cf3aa61e6a638f84342'),
      format: 'raw',
      virtualSizeBytes: 4,
    });
    expect(second).toEqual(first);
    expect(await cache.ensure(IMAGE, never)).toEqual(first);
    expect(downloads).toBe(1);
  });

  test('a boot that is given up leaves the others their download; the last one ends it', async () => {
    let start: (signal: AbortSignal) => void;
    const started = new Promise<AbortSignal>((resolve) => {
      start = resolve;
    });
    const cache = cacheOf({
      download: (_id, _toPath, { signal }) => {
        start(signal);
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('ended'))));
      },
    });
    const [one, two] = [new AbortController(), new AbortController()];
    const boots = [cache.ensure(IMAGE, one.signal), cache.ensure(IMAGE, two.signal)];
    const download = await started;
    one.abort(new Error('deleted'));
    await expect(boots[0]).rejects.toThrow('deleted');
    expect(download.aborted).toBe(false);
    two.abort(new Error('deleted as well'));
    await expect(boots[1]).rejects.toThrow('deleted as well');
    expect(download.aborted).toBe(true);
  });

  test.each([
    [{ ...IMAGE, diskFormat: 'vmdk' }, /disk format vmdk is not supported/],
    [{ ...IMAGE, containerFormat: 'ova' }, /container format ova is not supported/],
    [{ ...IMAGE, diskFormat: 'qcow2' }, /its content is raw, its disk format qcow2/],
  ])('what Glance says must be bootable and true', async (image, message) => {
    const cache = cacheOf({ download: (_id, toPath) => writeFile(toPath, 'disk') });
    await expect(cache.ensure(image, never)).rejects.toThrow(message);
    await cache.removeUnfinished();
    expect(await readdir(cache.directory)).toEqual([]);
  });
});
