/** One boot as each of those shows it who watch boots: page, metrics, log, trace. All by the same shape, to compare. */
import { z } from 'zod';
import type { Browser } from './browser';
import type { CollectedSpan } from './otlp-collector';

/** A phase or, with equal times, a milestone; milliseconds since the boot began. */
export interface Shown {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

const rowsSchema = z.array(z.tuple([z.string(), z.string()]));

/** The rows of the waterfall on the page, in the order of the page; milestones begin with `= `. */
export async function onPage(browser: Browser, url: string, instanceUuid: string): Promise<Shown[]> {
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
export function inMetrics(text: string, histogram: string, label: string): Record<string, number> {
  const sums = [...text.matchAll(new RegExp(`^${histogram}_sum\\{(.*)\\} (\\S+)$`, 'gm'))];
  return Object.fromEntries(
    sums.map(([, labels = '', seconds]) => [
      new RegExp(`${label}="([^"]*)"`).exec(labels)?.[1] ?? '',
      Number(seconds) * 1000,
    ]),
  );
}

/** The phases or milestones in the log's line about the end of a boot, and the trace it belongs to. */
export function inLog(line: string): { phases: Shown[]; milestones: Shown[]; traceId: string | undefined } {
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
export function inTrace(root: CollectedSpan, spans: readonly CollectedSpan[]): Shown[] {
  const ms = (nanos: bigint): number => Number(nanos - root.startTimeUnixNano) / 1e6;
  const INTERNAL = 1;
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
