/**
 * Where the milliseconds of one boot or bake went: named, possibly overlapping spans on one clock.
 *
 * Written by whoever does the work; the page, the metrics and the log are made from it. When traces are exported
 * (`lib/tracing`) it is a trace, too: its phases are spans with the very same times, its marks are events.
 */
import { performance } from 'node:perf_hooks';
import {
  type Attributes,
  type HrTime,
  ROOT_CONTEXT,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  type Span as TraceSpan,
  context,
  isSpanContextValid,
  trace,
} from '@opentelemetry/api';
import { describeError } from './exceptions';
import { redact } from './log';

/** One phase of the work; `startMs` and `endMs` count from the start of the timeline, to the microsecond. */
export interface Span {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** A point in time worth a name, such as `running` or `ready`. */
export interface Mark {
  readonly name: string;
  readonly atMs: number;
}

/** How a timeline looks as a trace. */
export interface TraceSubject {
  /** Name of the root span: boot, bake. */
  readonly name: string;
  /** Span of another service that this work belongs under; without one it is a trace of its own. */
  readonly parent?: SpanContext | null;
  readonly attributes?: Attributes;
}

/** Spans and marks of one piece of work, counted from its construction (or a given earlier instant). */
export class Timeline {
  readonly startedAt: Date;
  private readonly originMs: number;
  private readonly recordedSpans: Span[] = [];
  private readonly recordedMarks: Mark[] = [];
  private readonly root: TraceSpan | null;
  private current: {
    readonly name: string;
    readonly startMs: number;
    readonly span: TraceSpan | null;
  } | null = null;

  /**
   * @param subject what it is as a trace; none without
   * @param ageMs how long ago the work began, for work that began before this process saw it
   */
  constructor(subject: TraceSubject | null = null, ageMs = 0) {
    this.originMs = performance.now() - ageMs;
    this.startedAt = new Date(Date.now() - ageMs);
    this.root = subject === null ? null : this.beginTrace(subject);
  }

  /** Milliseconds since the start. */
  elapsedMs(): number {
    return Math.round((performance.now() - this.originMs) * 1000) / 1000;
  }

  /** Runs `work` as part of the trace: what it logs and sends carries the trace's id. */
  run<T>(work: () => T): T {
    return this.root === null ? work() : context.with(trace.setSpan(context.active(), this.root), work);
  }

  /** Runs `work` and records its duration under `name`, whether it succeeds or not. */
  async phase<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startMs = this.elapsedMs();
    const span = this.beginSpan(name, startMs);
    try {
      return await (span === null ? work() : context.with(trace.setSpan(context.active(), span), work));
    } catch (error) {
      span?.setStatus(failed(error));
      throw error;
    } finally {
      const endMs = this.elapsedMs();
      this.recordedSpans.push({ name, startMs, endMs });
      span?.end(this.at(endMs));
    }
  }

  /** The work goes on to `name`, where one step follows another; the step before is over. */
  step(name: string): void {
    this.endStep();
    const startMs = this.elapsedMs();
    this.current = { name, startMs, span: this.beginSpan(name, startMs) };
  }

  /** Records that `name` happened now; the first time counts. @returns that time, in milliseconds since the start */
  mark(name: string): number {
    const before = this.recordedMarks.find((mark) => mark.name === name);
    if (before !== undefined) return before.atMs;
    const atMs = this.elapsedMs();
    this.recordedMarks.push({ name, atMs });
    this.root?.addEvent(name, this.at(atMs));
    return atMs;
  }

  /** Nothing more will happen: the trace is complete. @param error what the work failed with */
  end(attributes: Attributes = {}, error?: unknown): void {
    if (error !== undefined) this.current?.span?.setStatus(failed(error));
    this.endStep();
    if (this.root === null) return;
    this.root.setAttributes(attributes);
    if (error !== undefined) this.root.setStatus(failed(error));
    this.root.end(this.at(this.elapsedMs()));
  }

  /** Id of the trace; null when it is not one. */
  get traceId(): string | null {
    return this.root?.spanContext().traceId ?? null;
  }

  get spans(): readonly Span[] {
    return this.recordedSpans;
  }

  get marks(): readonly Mark[] {
    return this.recordedMarks;
  }

  private endStep(): void {
    if (this.current === null) return;
    const { name, startMs, span } = this.current;
    const endMs = this.elapsedMs();
    this.recordedSpans.push({ name, startMs, endMs });
    span?.end(this.at(endMs));
    this.current = null;
  }

  /** null while nobody exports traces. */
  private beginTrace({ name, parent = null, attributes = {} }: TraceSubject): TraceSpan | null {
    const cause = trace.getActiveSpan()?.spanContext();
    const root = trace.getTracer('prebake').startSpan(
      name,
      {
        kind: parent === null ? SpanKind.INTERNAL : SpanKind.CONSUMER,
        startTime: this.at(0),
        attributes,
        // Work that other work asked for, and does not wait for.
        links: cause === undefined ? [] : [{ context: cause }],
      },
      parent === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent),
    );
    return isSpanContextValid(root.spanContext()) ? root : null;
  }

  /** Below the phase it is part of, if that is known, else below the whole. */
  private beginSpan(name: string, startMs: number): TraceSpan | null {
    if (this.root === null) return null;
    const around = trace.getActiveSpan();
    const parent = around?.spanContext().traceId === this.traceId ? around : this.root;
    const within = trace.setSpan(context.active(), parent);
    return trace.getTracer('prebake').startSpan(name, { startTime: this.at(startMs) }, within);
  }

  private at(elapsedMs: number): HrTime {
    const sinceEpochUs = this.startedAt.getTime() * 1000 + Math.round(elapsedMs * 1000);
    return [Math.floor(sinceEpochUs / 1e6), (sinceEpochUs % 1e6) * 1000];
  }
}

/** Phases in words, for the log: `restore 4-530, network 3-412`, in whole milliseconds since the start. */
export function phasesInWords(spans: readonly Span[]): string {
  return [...spans]
    .sort((a, b) => a.startMs - b.startMs)
    .map(({ name, startMs, endMs }) => `${name} ${Math.round(startMs)}-${Math.round(endMs)}`)
    .join(', ');
}

/** Marks in words, for the log: `running 560, active 590`. */
export function marksInWords(marks: readonly Mark[]): string {
  return [...marks]
    .sort((a, b) => a.atMs - b.atMs)
    .map(({ name, atMs }) => `${name} ${Math.round(atMs)}`)
    .join(', ');
}

function failed(error: unknown): { code: SpanStatusCode; message: string } {
  return { code: SpanStatusCode.ERROR, message: redact(describeError(error)) };
}
