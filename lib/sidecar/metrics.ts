/**
 * The metrics of this service, by Prometheus' conventions (base units, `_total`, `_seconds`), in a registry of their own.
 *
 * Others report events by its methods and need to know nothing of prom-client.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { z } from 'zod';

/** From one hot-plug call to a cold boot under emulation. */
const BOOT_BUCKETS_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300];
const BLOCK_BUCKETS_S = [0.1, 0.2, 0.5, 1, 2, 5];
/** What prom-client learns by looking a hundred times a second, which would be most of what an idle service does. */
const FROM_LOOKING = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map(
  (figure) => `nodejs_eventloop_lag_${figure}_seconds`,
);
const SELDOM_MS = 3_600_000;
const BAKE_BUCKETS_S = [5, 10, 20, 40, 80, 160, 320, 640, 1280];

/** Reads a value at the time of a scrape. */
export type GaugeSource = () => number | Promise<number>;

const definitionsSchema = z.array(
  z.object({
    name: z.string(),
    help: z.string(),
    type: z.string(),
    labelNames: z.array(z.string()).default([]),
  }),
);
/** What is known of a metric before it has a value. */
export type MetricDefinition = z.infer<typeof definitionsSchema>[number];

/** Everything `/metrics` shows. */
export class Metrics {
  private readonly registry = new Registry();
  private readonly phases = new Histogram({
    name: 'prebake_boot_phase_seconds',
    help: 'Duration of each phase of a boot; phases overlap',
    labelNames: ['phase', 'how'] as const,
    buckets: BOOT_BUCKETS_S,
    registers: [this.registry],
  });
  private readonly milestones = new Histogram({
    name: 'prebake_boot_milestone_seconds',
    help: 'Time from the boot request to: running, active, identity, ready',
    labelNames: ['milestone', 'how'] as const,
    buckets: BOOT_BUCKETS_S,
    registers: [this.registry],
  });
  private readonly boots = new Counter({
    name: 'prebake_boots_total',
    help: 'Boots that ended, by how the server came up (uvm, cold, none) and the outcome',
    labelNames: ['how', 'outcome'] as const,
    registers: [this.registry],
  });
  private readonly inProgress = new Gauge({
    name: 'prebake_boots_in_progress',
    help: 'Boots between their request and active or failed',
    registers: [this.registry],
  });
  private readonly bakes = new Histogram({
    name: 'prebake_bake_seconds',
    help: 'Duration of bakes; the count of outcome="failed" is the number of failures',
    labelNames: ['outcome'] as const,
    buckets: BAKE_BUCKETS_S,
    registers: [this.registry],
  });

  private readonly hoarded = new Counter({
    name: 'prebake_hoard_bytes_total',
    help: 'Bytes of µVMs fetched from and uploaded to the object store',
    labelNames: ['direction'] as const,
    registers: [this.registry],
  });
  private readonly transfers = new Counter({
    name: 'prebake_hoard_transfers_total',
    help: 'µVMs fetched from and uploaded to the object store, by outcome',
    labelNames: ['direction', 'outcome'] as const,
    registers: [this.registry],
  });

  private readonly blocks = new Histogram({
    name: 'prebake_event_loop_blocked_seconds',
    help: 'Times of 50 ms and more in which the service could do one thing only',
    buckets: BLOCK_BUCKETS_S,
    registers: [this.registry],
  });

  constructor() {
    // Memory, garbage collection, file descriptors, and how long a scrape waits for its turn.
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: SELDOM_MS });
    for (const name of FROM_LOOKING) this.registry.removeSingleMetric(name);
  }

  eventLoopBlocked(durationMs: number): void {
    this.blocks.observe(durationMs / 1000);
  }

  bootBegan(): void {
    this.inProgress.inc();
  }

  bootLeftProgress(): void {
    this.inProgress.dec();
  }

  bootEnded(how: string, outcome: string): void {
    this.boots.inc({ how, outcome });
  }

  bootPhase(how: string, phase: string, durationMs: number): void {
    this.phases.observe({ how, phase }, durationMs / 1000);
  }

  bootMilestone(how: string, milestone: string, atMs: number): void {
    this.milestones.observe({ how, milestone }, atMs / 1000);
  }

  bakeEnded(outcome: 'made' | 'failed', durationMs: number): void {
    this.bakes.observe({ outcome }, durationMs / 1000);
  }

  hoardBytes(direction: 'fetched' | 'uploaded', bytes: number): void {
    this.hoarded.inc({ direction }, bytes);
  }

  hoardEnded(direction: 'fetched' | 'uploaded', outcome: 'done' | 'failed'): void {
    this.transfers.inc({ direction, outcome });
  }

  /** Adds a value that is read at each scrape, such as the bytes of the cache; NaN when it cannot be read. */
  addGauge(name: string, help: string, source: GaugeSource): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      async collect() {
        try {
          this.set(await source());
        } catch {
          // The rest of the scrape is worth having; NaN is how Prometheus says "unknown".
          this.set(Number.NaN);
        }
      },
    });
  }

  /** All metrics there are, by name. */
  definitions(): readonly MetricDefinition[] {
    return definitionsSchema
      .parse(this.registry.getMetricsAsArray())
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** All metrics in Prometheus' text format. */
  render(): Promise<string> {
    return this.registry.metrics();
  }
}
