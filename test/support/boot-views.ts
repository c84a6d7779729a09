/** One boot as each of those shows it who watch boots: `/boots`, page, metrics, log, trace. They have to agree. */
import { z } from 'zod';
import { Browser } from './browser';
import type { BootRecord, ComputeProcess } from './compute-process';
import type { CollectedSpan, OtlpCollector } from './otlp-collector';

/** Kinds of spans. */
const INTERNAL = 1;
const CLIENT = 3;

/** A phase or, with equal times, a milestone; milliseconds since the boot began. */
interface Shown {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

const rowsSchema = z.array(z.tuple([z.string(), z.string()]));

/** The rows of the waterfall on the page, in the order of the page; milestones begin with `= `. */
async function onPage(browser: Browser, url: string, instanceUuid: string): Promise<Shown[]> {
  const boot = `[...document.querySelectorAll('details')].find((one) => one.querySelector('summary .id').innerText === '${instanceUuid}')`;
  await browser.open(`${url}/`);
  await browser.until(`${boot} !== undefined`);
  const rows = await browser.evaluate(
    `[...${boot}.querySelectorAll('.waterfall:not(.scale) tr')].map((row) => [row.querySelector('th').firstChild.data, row.querySelector('.ms').title])`,
  );
  return rowsSchema.parse(rows).map(([name, times]) => {
    const [, start, end] = /^([\d.]+) to ([\d.]+) ms$/.exec(times) ?? [];
    return { name, startMs: Number(start), endMs: Number(end) };
  });
}

/** Sums of a histogram in milliseconds, by the values of one label. */
function inMetrics(text: string, histogram: string, label: string): Record<string, number> {
  const sums = [...text.matchAll(new RegExp(`^${histogram}_sum\\{(.*)\\} (\\S+)$`, 'gm'))];
  return Object.fromEntries(
    sums.map(([, labels = '', seconds]) => [
      new RegExp(`${label}="([^"]*)"`).exec(labels)?.[1] ?? '',
      Number(seconds) * 1000,
    ]),
  );
}

/** The phases or milestones in the log's line about the end of a boot, and the trace it belongs to. */
function inLog(line: string): { phases: Shown[]; milestones: Shown[]; traceId: string | undefined } {
  const field = (name: string): string[] =>
    new RegExp(`${name}="([^"]*)"`).exec(line)?.[1]?.split(', ') ?? [];
  const shown = (item: string): Shown => {
    const [, name = '', start, end = start] = /^(.+) (\d+)(?:-(\d+))?$/.exec(item) ?? [];
    return { name, startMs: Number(start), endMs: Number(end) };
  };
  return {
    phases: field('phases').map(shown),
    milestones: field('milestones').map(shown),
    traceId: /trace_id=([0-9a-f]{32})/.exec(line)?.[1],
  };
}

/** The spans of a trace within the service, and the events of the whole boot. */
function inTrace(root: CollectedSpan, spans: readonly CollectedSpan[]): Shown[] {
  const ms = (nanos: bigint): number => Number(nanos - root.startTimeUnixNano) / 1e6;
  return [
    ...spans
      .filter((span) => span.kind === INTERNAL && span.spanId !== root.spanId)
      .map((span) => ({
        name: span.name,
        startMs: ms(span.startTimeUnixNano),
        endMs: ms(span.endTimeUnixNano),
      })),
    ...root.events.map(({ name, timeUnixNano }) => ({
      name: `= ${name}`,
      startMs: ms(timeUnixNano),
      endMs: ms(timeUnixNano),
    })),
  ];
}

const byName = (a: Shown, b: Shown): number =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : a.startMs - b.startMs;

function rounded({ name, startMs, endMs }: Shown): Shown {
  return { name, startMs: Math.round(startMs), endMs: Math.round(endMs) };
}

/**
 * Expects one boot, which has to be the only one of the service so far and from a µVM, to be the same to all who watch: in
 * the log to the millisecond, elsewhere to the microsecond.
 */
export async function expectAgreement(
  { instanceUuid, imageId, startedAt, spans, marks, traceId }: BootRecord,
  service: Pick<ComputeProcess, 'get' | 'line' | 'url'>,
  collector: OtlpCollector,
): Promise<void> {
  const phases: readonly Shown[] = spans;
  const milestones = marks.map(({ name, atMs }): Shown => ({ name, startMs: atMs, endMs: atMs }));
  const asRows = milestones.map((one) => ({ ...one, name: `= ${one.name}` }));
  expect(phases.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['neutron', 'template', 'restore', 'network', 'hotplug', 'resume', 'saves']),
  );

  const metrics = z.string().parse((await service.get('/metrics')).data);
  const sumsMs: Record<string, number> = {};
  for (const { name, startMs, endMs } of phases) sumsMs[name] = (sumsMs[name] ?? 0) + endMs - startMs;
  const counted = inMetrics(metrics, 'prebake_boot_phase_seconds', 'phase');
  expect(Object.keys(counted).sort()).toEqual(Object.keys(sumsMs).sort());
  for (const [name, ms] of Object.entries(sumsMs)) expect(counted[name]).toBeCloseTo(ms, 3);
  const reached = inMetrics(metrics, 'prebake_boot_milestone_seconds', 'milestone');
  expect(Object.keys(reached).sort()).toEqual(marks.map(({ name }) => name).sort());
  for (const { name, atMs } of marks) expect(reached[name]).toBeCloseTo(atMs, 3);

  expect(inLog(await service.line(instanceUuid, 'boot ended', 'outcome=ready'))).toEqual({
    phases: phases.map(rounded),
    milestones: milestones.map(rounded),
    traceId,
  });

  const root = await collector.arrival('boot', traceId ?? '');
  expect(root.attributes).toMatchObject({
    'openstack.instance_uuid': instanceUuid,
    'openstack.image_id': imageId,
    'prebake.how': 'uvm',
    'prebake.outcome': 'ready',
  });
  expect(Number(root.startTimeUnixNano / 1_000_000n)).toBe(Date.parse(startedAt));
  const trace = collector.trace(root.traceId);
  expect(inTrace(root, trace).sort(byName)).toEqual([...phases, ...asRows].sort(byName));
  const calls = trace.filter((span) => span.kind === CLIENT).map((span) => span.name);
  expect(calls).toContainEqual(expect.stringMatching(/^POST .*\/v2\.0\/ports$/));

  const browser = await Browser.launch();
  try {
    const drawn = asRows.filter(({ name }) => name !== '= rpc_received');
    expect(await onPage(browser, service.url, instanceUuid)).toEqual([...phases, ...drawn]);
  } finally {
    await browser.close();
  }
  expect(collector.complaints).toEqual([]);
}
