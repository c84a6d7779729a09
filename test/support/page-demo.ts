/** A sidecar with a bit of everything on its page, for tests that look at it. */
import { createLogger } from '../../lib/log';
import { BakeRecorder, BootRecorder, Metrics, type Sidecar, createSidecar } from '../../lib/sidecar';
import type { CacheBudget, CacheEntry, UvmUsage } from '../../lib/squirrel';
import type { Span } from '../../lib/timeline';
import { Timeline } from '../../lib/timeline';

export const PAGE_IMAGE = '5d8a2c0e-0000-4000-8000-000000000001';
export const GONE_IMAGE = '5d8a2c0e-0000-4000-8000-00000000dead';
export const PAGE_SERVER = 'a91c8daa-588d-4e99-91b6-69a4ff57812d';
const log = createLogger({ level: 'silent' });
const NEVER = new Promise<never>(() => undefined);

/** A timeline whose clock is given. */
export function timelineOf(spans: readonly Span[], marks: Readonly<Record<string, number>>): Timeline {
  const timeline = new Timeline(null, Math.max(...Object.values(marks)));
  const given = { spans, marks: Object.entries(marks).map(([name, atMs]) => ({ name, atMs })) };
  return Object.defineProperties(timeline, {
    spans: { value: given.spans },
    marks: { value: given.marks },
  });
}

function span(name: string, startMs: number, endMs: number): Span {
  return { name, startMs, endMs };
}

/** Boots, bakes and µVMs as they could be. */
export function pageWorld(): {
  boots: BootRecorder;
  bakes: BakeRecorder;
  metrics: Metrics;
  cache: CacheEntry[];
} {
  const metrics = new Metrics();
  const boots = new BootRecorder(metrics);
  const bakes = new BakeRecorder();
  bakes.progress({ imageId: PAGE_IMAGE, phase: 'boot', elapsedMs: 500 });
  bakes.progress({ imageId: PAGE_IMAGE, phase: 'seal', elapsedMs: 94_500 });
  bakes.ended({ imageId: PAGE_IMAGE, outcome: 'made', durationMs: 121_000 });
  const reason = 'baking image other failed (boot): not done after 900 s';
  bakes.ended({ imageId: 'other', outcome: 'failed', durationMs: 900_000, reason });
  bakes.progress({ imageId: 'third-image', phase: 'store', percent: 40, elapsedMs: 101_000 });
  const cold = boots.begin({
    instanceUuid: 'cold-server',
    imageId: 'other',
    timeline: timelineOf([span('network', 5, 900), span('start', 900, 1200)], { active: 1300 }),
    log,
  });
  cold.active({ how: 'cold', why: 'the image has no µVM yet' });
  cold.ready();
  boots
    .begin({
      instanceUuid: 'failed-server',
      imageId: 'other',
      timeline: timelineOf([span('network', 5, 900)], { rpc_received: 0 }),
      log,
    })
    .failed(new Error('no <b>bridge</b>'));
  const spans = [
    span('network', 7, 610),
    span('template', 8, 12),
    span('restore', 14, 540),
    span('config_drive', 15, 640),
    span('hotplug', 641, 720),
    span('identity', 721, 1400),
    span('resources', 760, 2050),
  ];
  const marks = { rpc_received: 0, running: 730, active: 900, identity: 1400, ready: 2051 };
  const boot = boots.begin({
    instanceUuid: PAGE_SERVER,
    imageId: PAGE_IMAGE,
    timeline: timelineOf(spans, marks),
    log,
  });
  boot.active({ how: 'uvm', ready: NEVER });
  boot.ready();
  const manifest = {
    image: { id: PAGE_IMAGE, checksum: null },
    bakedAt: new Date(Date.now() - 7_200_000).toISOString(),
    bakeMs: 121_000,
    memoryMb: 512,
    addedBytes: 31_000_000,
  } as Extract<CacheEntry, { state: 'ok' }>['manifest'];
  const cache: CacheEntry[] = [
    { state: 'ok', key: 'ab12'.repeat(16), manifest },
    {
      state: 'quarantined',
      key: 'cd34'.repeat(16),
      manifest,
      reason: 'page 7 of ram differs',
      since: '2026-11-20T10:00:00.000Z',
    },
    { state: 'unreadable', key: 'ef56'.repeat(16), reason: 'the manifest is not JSON' },
  ];
  return { boots, bakes, metrics, cache };
}

const MIB = 1024 ** 2;
export const PAGE_BUDGET: CacheBudget = {
  storedBytes: 90 * MIB,
  materialisedBytes: 700 * MIB,
  materialisedLimitBytes: 20_480 * MIB,
  freeBytes: 51_200 * MIB,
  reserveBytes: 1024 * MIB,
};
const file = { zeroBytes: 0, imageBytes: 0, sharedBytes: 0, ownBytes: 4 * MIB, ownStoredBytes: MIB };
export const PAGE_USAGE: UvmUsage = {
  ram: {
    zeroBytes: 400 * MIB,
    imageBytes: 60 * MIB,
    sharedBytes: 30 * MIB,
    ownBytes: 22 * MIB,
    ownStoredBytes: 9 * MIB,
  },
  disk: file,
  state: file,
};

/** Serves that world. What was asked to be done goes to `asked`; the image `gone` is not in Glance. */
export async function serveDemoPage(token: string | null = null, asked: string[] = []): Promise<Sidecar> {
  const { boots, bakes, metrics, cache } = pageWorld();
  return await createSidecar({
    listen: { host: '127.0.0.1', port: 0 },
    checks: new Map(),
    boots,
    bakes,
    metrics,
    cache: {
      list: () => Promise.resolve(cache),
      budget: () => Promise.resolve(PAGE_BUDGET),
      usage: () => Promise.resolve(PAGE_USAGE),
    },
    actions: {
      bake: (imageId) => {
        if (imageId === GONE_IMAGE) return Promise.reject(new Error(`image ${imageId} is not in Glance`));
        asked.push(`bake ${imageId}`);
        return Promise.resolve();
      },
      evict: (key) => {
        asked.push(`evict ${key}`);
        return Promise.resolve();
      },
    },
    host: 'compute-1',
    token,
    logger: createLogger({ level: 'silent' }),
  });
}
