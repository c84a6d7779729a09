import { createServer } from 'node:net';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createLogger } from '../../lib/log';
import {
  BakeRecorder,
  BootRecorder,
  Metrics,
  type ReadinessCheck,
  type Sidecar,
  createSidecar,
  sidecarUrl,
} from '../../lib/sidecar';
import { Timeline } from '../../lib/timeline';
import { PAGE_BUDGET, PAGE_USAGE } from '../support/page-demo';

const up: ReadinessCheck = () => Promise.resolve();
const logger = createLogger({ level: 'silent' });
/** What only the page is about. */
const page = {
  host: 'compute-1',
  bakes: new BakeRecorder(),
  cache: {
    list: () => Promise.resolve([]),
    budget: () => Promise.resolve(PAGE_BUDGET),
    usage: () => Promise.resolve(PAGE_USAGE),
  },
  actions: { bake: () => Promise.resolve(), evict: () => Promise.resolve() },
};

describe('sidecar', () => {
  let sidecar: Sidecar | undefined;
  afterEach(async () => {
    await sidecar?.close();
    sidecar = undefined;
  });

  async function start(
    checks: Record<string, ReadinessCheck> = {},
  ): Promise<{ boots: BootRecorder; metrics: Metrics }> {
    const metrics = new Metrics();
    const boots = new BootRecorder(metrics);
    sidecar = await createSidecar({
      ...page,
      listen: { host: '127.0.0.1', port: 0 },
      checks: new Map(Object.entries(checks)),
      boots,
      metrics,
      logger,
      checkTimeoutMs: 100,
    });
    return { boots, metrics };
  }

  async function get(path: string): Promise<{ status: number; text: string; body: unknown }> {
    const response = await fetch(`${sidecar?.url ?? ''}${path}`);
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json') === true;
    return { status: response.status, text, body: isJson ? JSON.parse(text) : undefined };
  }

  test('is alive', async () => {
    await start();
    expect(await get('/healthz')).toMatchObject({ status: 200, body: { status: 'ok', pid: process.pid } });
  });

  test('is ready when every dependency answers', async () => {
    await start({ amqp: up, libvirt: up });
    expect(await get('/readyz')).toMatchObject({
      status: 200,
      body: { ready: true, checks: { amqp: { state: 'up' }, libvirt: { state: 'up' } } },
    });
  });

  test('names what is down and why, without secrets, and does not wait for one that hangs', async () => {
    await start({
      amqp: () =>
        Promise.reject(new Error('cannot reach rabbit://nova:pa55@h/', { cause: new Error('ECONNREFUSED') })),
      conductor: up,
      placement: () => new Promise(() => undefined),
    });
    const { status, body } = await get('/readyz');
    expect(status).toBe(503);
    expect(body).toEqual({
      ready: false,
      checks: {
        amqp: { state: 'down', reason: 'cannot reach rabbit://nova:***@h/: ECONNREFUSED' },
        conductor: { state: 'up' },
        placement: { state: 'down', reason: 'no answer in 100 ms' },
      },
    });
  });

  test('shows boots newest first, with spans and marks in order', async () => {
    const { boots } = await start();
    boots.begin({ instanceUuid: 'older', imageId: 'i', timeline: new Timeline(), log: logger });
    const timeline = new Timeline(null, 1000);
    const boot = boots.begin({ instanceUuid: 'newer', imageId: 'i', timeline, log: logger });
    await timeline.phase('network', () => Promise.resolve());
    timeline.mark('running');
    boot.active({ how: 'cold', why: 'no µVM yet' });
    boot.ready();
    const { body } = await get('/boots');
    expect(body).toMatchObject({
      boots: [
        {
          instanceUuid: 'newer',
          how: 'cold',
          why: 'no µVM yet',
          outcome: 'active',
          spans: [{ name: 'network' }],
          marks: [{ name: 'running' }],
        },
        { instanceUuid: 'older', how: null, outcome: 'building' },
      ],
    });
  });

  test('a clone is ready only if its timeline says so', async () => {
    const { boots } = await start();
    const never = new Promise<never>(() => undefined);
    const ready = new Timeline();
    const first = boots.begin({ instanceUuid: 'ready', imageId: 'i', timeline: ready, log: logger });
    first.active({ how: 'uvm', ready: never });
    ready.mark('ready');
    first.ready();
    const second = boots.begin({
      instanceUuid: 'cold instead',
      imageId: 'i',
      timeline: new Timeline(),
      log: logger,
    });
    second.active({ how: 'uvm', ready: never });
    second.ready();
    const third = boots.begin({
      instanceUuid: 'failed',
      imageId: 'i',
      timeline: new Timeline(),
      log: logger,
    });
    third.failed(new Error('no memory', { cause: new Error('libvirt says no') }));
    expect(boots.recent().map((boot) => [boot.outcome, boot.error])).toEqual([
      ['failed', 'no memory: libvirt says no'],
      ['active', null],
      ['ready', null],
    ]);
  });

  test('keeps the last 200 boots', async () => {
    const { boots } = await start();
    for (let i = 0; i < 205; i++)
      boots.begin({ instanceUuid: `${i}`, imageId: 'i', timeline: new Timeline(), log: logger });
    expect(boots.recent()).toHaveLength(200);
    expect(boots.recent().at(-1)?.instanceUuid).toBe('5');
  });

  test('counts boots and observes each phase once', async () => {
    const { boots, metrics } = await start();
    metrics.addGauge('prebake_cache_bytes', 'Bytes of the cache', () => Promise.resolve(4096));
    metrics.addGauge('prebake_broken', 'Cannot be read', () => Promise.reject(new Error('gone')));
    metrics.bakeEnded('made', 60_000);
    metrics.eventLoopBlocked(150);
    const timeline = new Timeline();
    const boot = boots.begin({ instanceUuid: 'a', imageId: 'i', timeline, log: logger });
    await timeline.phase('restore', () => Promise.resolve());
    timeline.mark('active');
    boot.active({ how: 'uvm', ready: new Promise<never>(() => undefined) });
    timeline.mark('ready');
    boot.ready();
    boots.begin({ instanceUuid: 'b', imageId: 'i', timeline: new Timeline(), log: logger });
    const { status, text } = await get('/metrics');
    expect(status).toBe(200);
    for (const line of [
      'prebake_boot_phase_seconds_count{how="uvm",phase="restore"} 1',
      'prebake_boot_milestone_seconds_count{how="uvm",milestone="active"} 1',
      'prebake_boot_milestone_seconds_count{how="uvm",milestone="ready"} 1',
      'prebake_boots_total{how="uvm",outcome="ready"} 1',
      'prebake_boots_in_progress 1',
      'prebake_bake_seconds_count{outcome="made"} 1',
      'prebake_cache_bytes 4096',
      'prebake_event_loop_blocked_seconds_bucket{le="0.1"} 0',
      'prebake_event_loop_blocked_seconds_bucket{le="0.2"} 1',
      'prebake_broken Nan',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
    expect(text).toContain('nodejs_eventloop_lag_seconds');
  });

  test('answers an unknown path with what there is', async () => {
    await start();
    expect(await get('/nothing')).toMatchObject({ status: 404, body: { error: 'there is no /nothing' } });
  });

  test('names the address that is taken', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as AddressInfo;
    const metrics = new Metrics();
    const options = {
      ...page,
      listen: { host: '127.0.0.1', port },
      checks: new Map(),
      boots: new BootRecorder(metrics),
      metrics,
      logger,
    };
    await expect(createSidecar(options)).rejects.toThrow(
      new RegExp(`sidecar_listen: cannot listen on 127.0.0.1 port ${port}: .*EADDRINUSE`),
    );
    holder.close();
    await once(holder, 'close');
  });
});

test.each([
  [{ host: '127.0.0.1', port: 8790 }, 'http://127.0.0.1:8790'],
  [{ host: '::1', port: 1 }, 'http://[::1]:1'],
])('an address has a URL', (listen, url) => {
  expect(sidecarUrl(listen)).toBe(url);
});
