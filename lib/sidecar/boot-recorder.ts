/**
 * Remembers the last boots with their timelines. What the page and `prebake boots` show, the metrics, the line in the log
 * and the trace of a boot are all made here, from the one timeline: they agree.
 *
 * It watches: nothing here changes how a boot goes.
 */
import type { SpawnOutcome } from '../../drivers/driver';
import { describeError } from '../exceptions';
import { type Logger, redact } from '../log';
import { type Mark, type Span, type Timeline, marksInWords, phasesInWords } from '../timeline';
import type { Metrics } from './metrics';

/** Boots that are kept. */
const CAPACITY = 200;

/**
 * building: under way; active: Nova shows the server as ACTIVE (where a cold boot ends for us);
 * ready: its guest has its identity and all resources; failed: the build failed, or the guest never became ready.
 */
export type BootOutcome = 'building' | 'active' | 'ready' | 'failed';

/** What is known when a boot begins. */
export interface BootSubject {
  readonly instanceUuid: string;
  readonly imageId: string;
  /** Begun when the request arrived; later phases may still be added. */
  readonly timeline: Timeline;
  /** About this request and server. */
  readonly log: Logger;
}

/** One boot as `/boots` shows it; milliseconds count from `startedAt`. */
export interface BootView {
  readonly instanceUuid: string;
  readonly imageId: string;
  readonly startedAt: string;
  /** null until it is known. */
  readonly how: SpawnOutcome['how'] | null;
  /** Why the server booted cold, null when it did not. */
  readonly why: string | null;
  readonly outcome: BootOutcome;
  readonly error: string | null;
  /** null when no traces are exported. */
  readonly traceId: string | null;
  readonly spans: readonly Span[];
  readonly marks: readonly Mark[];
}

/** One boot under way: whoever builds the server tells how it goes. */
export class Boot {
  private outcome: BootOutcome = 'building';
  private how: SpawnOutcome['how'] | null = null;
  private why: string | null = null;
  private error: string | null = null;
  /** Spans and marks up to here are in the metrics. */
  private reportedSpans = 0;
  private reportedMarks = 0;

  constructor(
    private readonly subject: BootSubject,
    private readonly metrics: Metrics,
  ) {
    metrics.bootBegan();
  }

  /** Nova shows the server as ACTIVE. */
  active(outcome: SpawnOutcome): void {
    if (this.outcome !== 'building') return;
    this.outcome = 'active';
    this.how = outcome.how;
    this.why = outcome.how === 'cold' ? outcome.why : null;
    this.metrics.bootLeftProgress();
    this.report();
    if (outcome.how === 'cold') this.ended();
  }

  /** Nothing more will happen to this boot. The guest counts as ready only if the timeline has a mark that says so. */
  ready(): void {
    if (this.outcome !== 'active') return;
    this.report();
    if (this.how === 'cold') return;
    if (this.subject.timeline.marks.some((mark) => mark.name === 'ready')) this.outcome = 'ready';
    this.ended();
  }

  /** The build failed; or, once it was active, the guest did not become ready. */
  failed(error: unknown): void {
    if (this.outcome !== 'building' && this.outcome !== 'active') return;
    if (this.outcome === 'building') this.metrics.bootLeftProgress();
    this.outcome = 'failed';
    this.error = describeError(error);
    this.report();
    this.ended(error);
  }

  view(): BootView {
    const { instanceUuid, imageId, timeline } = this.subject;
    return {
      instanceUuid,
      imageId,
      startedAt: timeline.startedAt.toISOString(),
      how: this.how,
      why: this.why,
      outcome: this.outcome,
      error: this.error,
      traceId: timeline.traceId,
      spans: [...timeline.spans].sort((a, b) => a.startMs - b.startMs),
      marks: [...timeline.marks].sort((a, b) => a.atMs - b.atMs),
    };
  }

  /** Once, after `report`. */
  private ended(error?: unknown): void {
    const { instanceUuid, imageId, timeline, log } = this.subject;
    const how = this.how ?? 'none';
    this.metrics.bootEnded(how, this.outcome);
    timeline.end(
      {
        'openstack.instance_uuid': instanceUuid,
        'openstack.image_id': imageId,
        'prebake.how': how,
        'prebake.outcome': this.outcome,
        ...(this.why === null ? {} : { 'prebake.why': redact(this.why) }),
      },
      error,
    );
    log.info(
      {
        how,
        outcome: this.outcome,
        phases: phasesInWords(timeline.spans),
        milestones: marksInWords(timeline.marks),
      },
      'boot ended; where its time went, in ms',
    );
  }

  private report(): void {
    const how = this.how ?? 'none';
    const { spans, marks } = this.subject.timeline;
    for (const span of spans.slice(this.reportedSpans)) {
      this.metrics.bootPhase(how, span.name, span.endMs - span.startMs);
    }
    for (const mark of marks.slice(this.reportedMarks)) this.metrics.bootMilestone(how, mark.name, mark.atMs);
    this.reportedSpans = spans.length;
    this.reportedMarks = marks.length;
  }
}

/** The last boots of this process. */
export class BootRecorder {
  private readonly boots: Boot[] = [];

  constructor(private readonly metrics: Metrics) {}

  begin(subject: BootSubject): Boot {
    const boot = new Boot(subject, this.metrics);
    this.boots.push(boot);
    if (this.boots.length > CAPACITY) this.boots.shift();
    return boot;
  }

  /** Newest first. */
  recent(): BootView[] {
    return this.boots.map((boot) => boot.view()).reverse();
  }
}
