/** The baker's queue and the choice of a µVM, with a driver that only pretends. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import type { FlavorSpec, ImageSpec, TemplateDriver, UvmPlatform } from '../../drivers/driver';
import { BakeError, Baker, Templates } from '../../lib/bake';
import { flavorObstacle } from '../../lib/bake/suitability';
import { ImageMissing, Squirrel } from '../../lib/squirrel';
import { exportTraces } from '../../lib/tracing';
import { OtlpCollector } from '../support/otlp-collector';
import { makeDraft, page, UNLIMITED } from '../support/squirrel';

const logger = pino({ level: 'silent' });
const platform: UvmPlatform = {
  virtType: 'qemu',
  machineType: 'pc-i440fx-7.2',
  cpuModel: 'qemu64',
  qemuMajorVersion: 7,
  firmware: 'bios',
  layoutVersion: 1,
  maxVcpus: 4,
  maxMemoryMb: 4096,
};
const flavor: FlavorSpec = {
  name: 'm1',
  vcpus: 1,
  memoryMb: 512,
  rootGb: 1,
  ephemeralGb: 0,
  swapMb: 0,
  extraSpecs: {},
};

function image(id: string, properties: Record<string, string> = {}): ImageSpec {
  return {
    id,
    diskFormat: 'qcow2',
    containerFormat: 'bare',
    sizeBytes: 1,
    minDiskGb: 0,
    minRamMb: 0,
    checksum: null,
    properties,
  };
}

/** Boots fail, or wait for `signal`, as told. */
class PretendedDriver implements TemplateDriver {
  readonly booted: string[] = [];
  running = 0;
  mostAtOnce = 0;
  constructor(private readonly how: 'fail' | 'hang') {}

  platform = (): Promise<UvmPlatform> => Promise.resolve(platform);
  proveTemplate = (): Promise<never> => Promise.reject(new Error('not reached'));
  async bootTemplate({ image, signal }: Parameters<TemplateDriver['bootTemplate']>[0]): Promise<never> {
    this.booted.push(image.id);
    this.running += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.running);
    try {
      if (this.how === 'hang') {
        await new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(new Error('ended'))),
        );
      }
      await new Promise((resolve) => setImmediate(resolve));
      throw new Error('no bootable device');
    } finally {
      this.running -= 1;
    }
  }
}

let directory: string;
let squirrel: Squirrel;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'baker-'));
  squirrel = await Squirrel.open({
    directory,
    imagesDirectory: join(directory, '_base'),
    limits: UNLIMITED,
    logger,
  });
});
afterEach(async () => {
  await squirrel.close();
  await rm(directory, { recursive: true, force: true });
});

/** Images that were fetched for boots. */
const fetched: string[] = [];

function makeBaker(
  driver: TemplateDriver,
  bakeTimeoutS = 60,
  bake: 'auto' | 'tagged' = 'auto',
): { baker: Baker; templates: Templates } {
  const config = { prebake: { bake, baseMemoryMb: 512, bakeTimeoutS, uvmMaxAgeDays: 30 } };
  const baker = Baker.create({ squirrel, driver, config, logger });
  const imageCache = {
    cacheImage: ({ id }: ImageSpec) => {
      fetched.push(id);
      return Promise.resolve(true);
    },
  };
  const templates = Templates.create({ squirrel, baker, driver: imageCache, config, logger });
  return { baker, templates };
}

test('a bake is a trace of its steps', async () => {
  const collector = await OtlpCollector.start();
  const tracing = await exportTraces({ endpoint: collector.url, host: 'h', logger });
  try {
    const { baker } = makeBaker(new PretendedDriver('fail'));
    await expect(baker.bake(image('a'))).rejects.toThrow(BakeError);
  } finally {
    await tracing.close();
    await collector.stop();
  }
  const [root, step] = collector.trace(collector.spans[0]?.traceId ?? '');
  expect(root).toMatchObject({
    name: 'bake',
    attributes: { 'openstack.image_id': 'a', 'prebake.outcome': 'failed' },
    status: { code: 2, message: 'baking image a failed (boot): no bootable device' },
  });
  expect(step).toMatchObject({ name: 'boot', parentSpanId: root?.spanId, status: { code: 2 } });
});

test('one bake at a time, each image once, and a failure says in which step and why', async () => {
  const driver = new PretendedDriver('fail');
  const { baker } = makeBaker(driver);
  const results = await Promise.allSettled(['a', 'b', 'a', 'c', 'a'].map((id) => baker.bake(image(id))));
  for (const result of results) {
    expect(result).toMatchObject({ reason: expect.any(BakeError) as unknown });
    expect(result).toMatchObject({ reason: { phase: 'boot' } });
    expect(String((result as PromiseRejectedResult).reason)).toContain('no bootable device');
  }
  expect(driver.booted).toEqual(['a', 'b', 'c']);
  expect(driver.mostAtOnce).toBe(1);
  expect(baker.state).toEqual([]);
});

test('a bake ends when the last who wanted it leaves, not before', async () => {
  const driver = new PretendedDriver('hang');
  const { baker } = makeBaker(driver);
  const aborts = [new AbortController(), new AbortController()];
  const bakes = aborts.map(({ signal }) => baker.bake(image('a'), { signal }));
  aborts[0]?.abort(new Error('first left'));
  await expect(bakes[0]).rejects.toThrow('first left');
  expect(baker.state).toMatchObject([{ imageId: 'a' }]);
  aborts[1]?.abort(new Error('second left'));
  await expect(bakes[1]).rejects.toThrow('second left');
  await baker.close();
  expect(driver.running).toBe(0);
  expect(baker.state).toEqual([]);
});

test('a bake that takes too long ends and says so', async () => {
  const { baker } = makeBaker(new PretendedDriver('hang'), 0.05);
  await expect(baker.bake(image('a'))).rejects.toThrow('not done after 0.05 s');
});

test('closing ends what is in hand and in the queue', async () => {
  const { baker } = makeBaker(new PretendedDriver('hang'));
  const results = Promise.allSettled([baker.bake(image('a')), baker.bake(image('b'))]);
  await baker.close();
  for (const result of await results) expect(result.status).toBe('rejected');
  await expect(baker.bake(image('c'))).rejects.toThrow('the service stops');
});

test('an image whose bake failed is not baked again by itself, and boots say why', async () => {
  const driver = new PretendedDriver('fail');
  const { baker, templates } = makeBaker(driver);
  expect(await templates.find(image('a'), flavor)).toEqual({ none: 'the image has no µVM yet' });
  templates.wanted(image('a'));
  while (driver.booted.length === 0 || baker.state.length > 0) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(await templates.find(image('a'), flavor)).toMatchObject({
    none: expect.stringContaining('no bootable device') as string,
  });
  templates.wanted(image('a'));
  await templates.find(image('a'), flavor);
  expect(driver.booted).toEqual(['a']);
  // Neither does another start of the service, for which the reason is still there.
  const next = makeBaker(driver);
  next.templates.wanted(image('a'));
  expect(await next.templates.find(image('a'), flavor)).toMatchObject({
    none: expect.stringContaining('no bootable device') as string,
  });
  expect(driver.booted).toEqual(['a']);
  // A changed image is another matter.
  await expect(next.baker.bake({ ...image('a'), checksum: 'changed' })).rejects.toThrow();
  expect(await next.baker.failures.list()).toHaveLength(1);
});

test('an image whose own bake timeout is over says so', async () => {
  const { baker } = makeBaker(new PretendedDriver('hang'));
  await expect(baker.bake(image('a', { prebake_bake_timeout_s: '1' }))).rejects.toThrow('not done after 1 s');
});

describe('µVMs of some age', () => {
  const DAY_MS = 24 * 60 * 60_000;

  /** The cache holds a µVM of image `a`, baked so many days ago. */
  async function baked(daysAgo: number): Promise<{ templates: Templates; driver: PretendedDriver }> {
    const driver = new PretendedDriver('fail');
    const { baker, templates } = makeBaker(driver);
    const key = await baker.keyOf(image('a'));
    const draft = await makeDraft(directory, 'a', [page('ram')]);
    const bakedAt = new Date(Date.now() - daysAgo * DAY_MS).toISOString();
    await squirrel.add({
      ...draft,
      description: { ...draft.description, key, platform, memoryMb: 512, bakedAt },
    });
    await squirrel.release(key);
    return { templates, driver };
  }

  test('one that is too old is offered, and baked anew', async () => {
    const { templates, driver } = await baked(31);
    expect(await templates.find(image('a'), flavor)).toHaveProperty('uvm');
    while (driver.booted.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await templates.find(image('a'), flavor)).toHaveProperty('uvm');
  });

  test('one that came before its image has that fetched; one whose image is here has not', async () => {
    const { templates } = await baked(1);
    expect(await templates.find(image('a'), flavor)).toHaveProperty('uvm');
    expect(fetched).toEqual([]);
    jest.spyOn(squirrel, 'materialise').mockRejectedValueOnce(new ImageMissing('/_base/a'));
    expect(await templates.find(image('a'), flavor)).toHaveProperty('uvm');
    expect(fetched.splice(0)).toEqual(['a']);
  });

  test('a younger one is left alone', async () => {
    const { templates, driver } = await baked(29);
    expect(await templates.find(image('a'), flavor)).toHaveProperty('uvm');
    templates.wanted(image('a'));
    expect(await templates.find(image('a'), flavor)).toHaveProperty('uvm');
    expect(driver.booted).toEqual([]);
  });
});

test('where only tagged images are baked, prebake=always is the tag', async () => {
  const driver = new PretendedDriver('fail');
  const { baker, templates } = makeBaker(driver, 60, 'tagged');
  templates.wanted(image('a'));
  templates.wanted(image('b', { prebake: 'always' }));
  await expect(baker.bake(image('b', { prebake: 'always' }))).rejects.toBeInstanceOf(BakeError);
  expect(driver.booted).toEqual(['b']);
});

test.each([
  [{ prebake: 'never' }, 'the image says prebake=never'],
  [{ hw_disk_bus: 'scsi' }, 'the image asks for hw_disk_bus=scsi'],
  [{ hw_pmu: 'true' }, 'the image asks for hw_pmu=true'],
  [{ hw_qemu_guest_agent: 'yes', hw_tpm_version: '2.0' }, 'the image asks for hw_tpm_version=2.0'],
  [{ img_hide_hypervisor_id: 'yes' }, 'the image asks for img_hide_hypervisor_id=yes'],
  [{ os_type: 'windows' }, 'the image asks for os_type=windows'],
  [{ os_distro: 'win2k22' }, 'the image says os_distro=win2k22: a µVM becomes a server through cloud-init'],
  [{ prebake: 'yes' }, 'the image says prebake=yes, which is not auto, always or never'],
  [
    { prebake_min_memory_mb: '1 GB' },
    'the image says prebake_min_memory_mb=1 GB, which is not a number of MiB',
  ],
])('an image with %j has no µVM', async (properties, why) => {
  const driver = new PretendedDriver('fail');
  const { templates } = makeBaker(driver);
  expect(await templates.find(image('a', properties), flavor)).toEqual({ none: why });
  templates.wanted(image('a', properties));
  expect(driver.booted).toEqual([]);
});

test.each([
  [{ memoryMb: 8704 }, undefined],
  [{ memoryMb: 8832 }, 'a µVM of 512 can be given 8192 more at most'],
  [{ memoryMb: 600 }, 'a multiple of 128'],
  [{ vcpus: 17 }, 'the flavor has 17 vCPUs, a µVM 16 at most'],
  [{ ephemeralGb: 1, swapMb: 64 }, undefined],
  [{ extraSpecs: { 'hw:watchdog_action': 'reset' } }, 'the flavor asks for hw:watchdog_action'],
  [{ extraSpecs: { 'quota:cpu_shares': '512' } }, 'the flavor asks for quota:cpu_shares'],
  [{ extraSpecs: { 'quota:disk_read_iops_sec': '500' } }, undefined],
])('a µVM of 512 MiB and a flavor with %j', (changes, obstacle) => {
  const large = { ...platform, maxVcpus: 16, maxMemoryMb: 65_536 };
  const found = flavorObstacle({ ...flavor, ...changes }, 512, large);
  if (obstacle === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(obstacle);
});

test('everything that a restore depends on is in the key', async () => {
  const driver = new PretendedDriver('fail');
  const { baker } = makeBaker(driver);
  const keys = new Set([await baker.keyOf(image('a')), await baker.keyOf(image('b'))]);
  keys.add(await baker.keyOf({ ...image('a'), minRamMb: 600 }));
  keys.add(await baker.keyOf(image('a', { prebake_min_memory_mb: '700' })));
  keys.add(await baker.keyOf({ ...image('a'), checksum: 'other' }));
  for (const change of [{ layoutVersion: 2 }, { qemuMajorVersion: 8 }, { cpuModel: 'x' }, { maxVcpus: 8 }]) {
    driver.platform = () => Promise.resolve({ ...platform, ...change });
    keys.add(await baker.keyOf(image('a')));
  }
  expect(keys.size).toBe(9);
});
