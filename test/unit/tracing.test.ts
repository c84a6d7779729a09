/** Traces as a collector gets them: OTLP over a real connection. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger, openLog } from '../../lib/log';
import { RequestContext } from '../../lib/messaging';
import { KeystoneSession } from '../../lib/openstack';
import { Timeline, marksInWords, phasesInWords } from '../../lib/timeline';
import { type Tracing, exportTraces, requestTrace } from '../../lib/tracing';
import { until } from '../functional/support/until';
import { LocalCloud } from '../support/local-cloud';
import { type CollectedSpan, OtlpCollector } from '../support/otlp-collector';

const logger = createLogger({ level: 'silent' });
const BASE_ID = 'f3c1a9d0-5b7e-4c3a-9d21-0123456789ab';
const PARENT_ID = '0a1b2c3d-4e5f-4a6b-8c7d-fedcba987654';

describe('with a collector', () => {
  let collector: OtlpCollector;
  let tracing: Tracing;
  beforeEach(async () => {
    collector = await OtlpCollector.start();
    tracing = await exportTraces({ endpoint: `${collector.url}/`, host: 'compute-1', logger });
  });
  afterEach(async () => {
    await tracing.close();
    await collector.stop();
  });

  /** Everything that was sent, after the end. */
  async function sent(): Promise<CollectedSpan[]> {
    await tracing.close();
    expect(collector.complaints).toEqual([]);
    return collector.spans;
  }

  const named = (spans: readonly CollectedSpan[], name: string): CollectedSpan => {
    const found = spans.find((span) => span.name === name);
    if (found === undefined) throw new Error(`no span ${name} of ${spans.map((s) => s.name).join(', ')}`);
    return found;
  };

  test('phases and marks are spans and events, with the same times', async () => {
    const timeline = new Timeline({ name: 'boot', attributes: { 'openstack.request_id': 'req-1' } });
    await timeline.run(async () => {
      timeline.mark('rpc_received');
      await Promise.all([
        timeline.phase('disks', () => timeline.phase('image', () => Promise.resolve())),
        timeline.phase('network', () => Promise.reject(new Error('no bridge'))).catch(() => undefined),
      ]);
    });
    timeline.end({ 'prebake.how': 'cold' });
    const spans = await sent();

    const root = named(spans, 'boot');
    expect(root).toMatchObject({
      traceId: timeline.traceId,
      kind: 1,
      attributes: { 'openstack.request_id': 'req-1', 'prebake.how': 'cold' },
      resource: { 'service.name': 'prebake-compute', 'host.name': 'compute-1' },
    });
    expect(root.parentSpanId).toBeUndefined();
    const sinceStartMs = (nanos: bigint): number => Number(nanos - root.startTimeUnixNano) / 1e6;
    expect(root.startTimeUnixNano).toBe(BigInt(timeline.startedAt.getTime()) * 1_000_000n);
    expect(root.events.map(({ name, timeUnixNano }) => ({ name, atMs: sinceStartMs(timeUnixNano) }))).toEqual(
      timeline.marks,
    );
    expect(timeline.spans).toHaveLength(3);
    for (const { name, startMs, endMs } of timeline.spans) {
      const span = named(spans, name);
      expect(span.traceId).toBe(root.traceId);
      expect(sinceStartMs(span.startTimeUnixNano)).toBeCloseTo(startMs, 6);
      expect(sinceStartMs(span.endTimeUnixNano)).toBeCloseTo(endMs, 6);
    }
    expect(named(spans, 'disks').parentSpanId).toBe(root.spanId);
    expect(named(spans, 'image').parentSpanId).toBe(named(spans, 'disks').spanId);
    expect(named(spans, 'network')).toMatchObject({
      parentSpanId: root.spanId,
      status: { code: 2, message: 'no bridge' },
    });
  });

  test('steps follow each other; the one that failed is marked', async () => {
    const timeline = new Timeline({ name: 'bake' });
    timeline.step('boot');
    timeline.step('seal');
    timeline.end({}, new Error('the password of rabbit://nova:pa55@h/ is wrong'));
    const spans = await sent();
    expect(timeline.spans.map((span) => span.name)).toEqual(['boot', 'seal']);
    expect(named(spans, 'boot').status.code).toBe(0);
    for (const name of ['seal', 'bake']) {
      expect(named(spans, name).status).toMatchObject({
        code: 2,
        message: 'the password of rabbit://nova:***@h/ is wrong',
      });
    }
  });

  test('a request that osprofiler traces is traced on', async () => {
    const trace_info = { hmac_key: 'SECRET_KEY', base_id: BASE_ID, parent_id: PARENT_ID };
    const message = { ...RequestContext.admin('req-2').toMessage(), _context_trace_info: trace_info };
    const timeline = new Timeline(requestTrace('boot', RequestContext.fromMessage(message)));
    timeline.end();
    expect(timeline.traceId).toBe('f3c1a9d05b7e4c3a9d210123456789ab');
    expect(named(await sent(), 'boot')).toMatchObject({
      traceId: 'f3c1a9d05b7e4c3a9d210123456789ab',
      parentSpanId: '8c7dfedcba987654',
      kind: 5,
      attributes: { 'openstack.request_id': 'req-2' },
    });
  });

  test.each([[{ base_id: 'no UUID', parent_id: PARENT_ID }], ['text'], [null]])(
    'what is not osprofiler’s (%j) begins a trace of its own',
    async (trace_info) => {
      const message = { ...RequestContext.admin().toMessage(), _context_trace_info: trace_info };
      const timeline = new Timeline(requestTrace('boot', RequestContext.fromMessage(message)));
      timeline.end();
      expect(named(await sent(), 'boot').parentSpanId).toBeUndefined();
    },
  );

  test('services are told of the trace, and are part of it', async () => {
    const cloud = await LocalCloud.start(({ path }) =>
      path.startsWith('/v2.0/') ? { status: 200, body: {} } : undefined,
    );
    const session = new KeystoneSession({ authUrl: cloud.url, username: 'nova', password: 'p' }, logger);
    try {
      const ask = (path: string) => session.send('network', {}, { method: 'GET', path, query: { id: 'x' } });
      await ask('/v2.0/untraced');
      const timeline = new Timeline({ name: 'boot' });
      await timeline.run(() =>
        timeline.phase('neutron', async () => {
          await ask('/v2.0/ports');
          await ask('/gone').catch(() => undefined);
        }),
      );
      timeline.end();
      const spans = await sent();
      const call = named(spans, 'GET /v2.0/ports');
      expect(call).toMatchObject({
        kind: 3,
        parentSpanId: named(spans, 'neutron').spanId,
        attributes: {
          'http.request.method': 'GET',
          'url.full': `${cloud.url}/v2.0/ports`,
          'http.response.status_code': 200,
        },
      });
      expect(named(spans, 'GET /gone').status.code).toBe(2);
      const told = cloud.seen.map(({ path, headers }) => [path, headers['traceparent']]);
      expect(told).toContainEqual(['/v2.0/ports', `00-${call.traceId}-${call.spanId}-01`]);
      expect(told).toContainEqual(['/v2.0/untraced', undefined]);
      expect(spans.map((span) => span.name)).not.toContain('GET /v2.0/untraced');
    } finally {
      session.close();
      await cloud.stop();
    }
  });

  test('lines of the log carry the id of the trace they belong to', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-tracing-'));
    try {
      const log = openLog({ level: 'info', file: join(directory, 'log') });
      const timeline = new Timeline({ name: 'boot' });
      timeline.run(() => log.logger.info({ how: 'uvm' }, 'inside'));
      log.logger.info('outside');
      let lines: string[] = [];
      await until('two lines', async () => {
        lines = (await readFile(join(directory, 'log'), 'utf8')).split('\n');
        return lines.length > 2;
      });
      const [inside, outside] = lines;
      expect(inside).toMatch(new RegExp(`inside \\(.*trace_id=${timeline.traceId}.*\\)$`));
      expect(outside).toMatch(/outside$/);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test('work that was asked for by other work has a trace of its own, linked to it', async () => {
    const boot = new Timeline({ name: 'boot' });
    const bake = boot.run(() => new Timeline({ name: 'bake' }));
    bake.end();
    boot.end();
    const spans = await sent();
    expect(bake.traceId).not.toBe(boot.traceId);
    expect(named(spans, 'bake').links).toMatchObject([{ spanId: named(spans, 'boot').spanId }]);
  });
});

test('a collector that is away is told of once, and costs no time', async () => {
  const { port, stop } = await OtlpCollector.start().then((one) => ({
    port: one.port,
    stop: () => one.stop(),
  }));
  await stop();
  const endpoint = `http://127.0.0.1:${port}`;
  const warn = jest.spyOn(logger, 'warn');
  const info = jest.spyOn(logger, 'info');
  const tracing = await exportTraces({ endpoint, host: 'h', logger, sendTimeoutMs: 500 });
  const batch = async (): Promise<void> => {
    const timeline = new Timeline({ name: 'boot' });
    for (let i = 0; i < 300; i += 1) await timeline.phase(`${i}`, () => Promise.resolve());
    timeline.end();
  };
  await batch();
  await until('a warning', () => warn.mock.calls.length === 1);
  await batch();
  await batch();
  const collector = await OtlpCollector.start(port);
  try {
    await batch();
    await tracing.close();
    expect(warn.mock.calls).toEqual([
      [expect.stringContaining(`traces are lost until ${endpoint} takes them`)],
    ]);
    expect(info.mock.calls).toEqual([[`traces are taken again by ${endpoint}`]]);
    expect(collector.complaints).toEqual([]);
    expect(collector.spans.length).toBeGreaterThan(0);
  } finally {
    await collector.stop();
  }
});

test('headers for the collector come from the environment', async () => {
  const collector = await OtlpCollector.start();
  process.env['OTEL_EXPORTER_OTLP_HEADERS'] = 'authorization=Bearer%20a-token';
  try {
    const tracing = await exportTraces({ endpoint: collector.url, host: 'h', logger });
    new Timeline({ name: 'boot' }).end();
    await tracing.close();
    expect(collector.headers).toMatchObject([{ authorization: 'Bearer a-token' }]);
  } finally {
    delete process.env['OTEL_EXPORTER_OTLP_HEADERS'];
    await collector.stop();
  }
});

test('without an endpoint a timeline is no trace', async () => {
  const timeline = new Timeline({ name: 'boot' });
  await timeline.run(() => timeline.phase('network', () => Promise.resolve()));
  timeline.mark('active');
  expect(timeline.traceId).toBeNull();
  expect(timeline.spans.map((span) => span.name)).toEqual(['network']);
});

test('a timeline in words for the log', () => {
  const spans = [
    { name: 'restore', startMs: 3.6, endMs: 530.2 },
    { name: 'template', startMs: 0, endMs: 2.5 },
  ];
  expect(phasesInWords(spans)).toBe('template 0-3, restore 4-530');
  expect(marksInWords([{ name: 'active', atMs: 612.49 }])).toBe('active 612');
});
