/**
 * Sends finished spans to a collector, by OTLP over HTTP as JSON. Whatever the collector does, the work goes on: spans are
 * sent in batches from a bounded queue, each batch has a deadline, what does not get there is dropped, and the log says
 * so once.
 */
import { context, propagation, trace } from '@opentelemetry/api';
import type { ExportResult } from '@opentelemetry/core';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { readVersion } from '../version';

/** A boot is about 20 spans. */
const QUEUE_SPANS = 4096;
const BATCH_SPANS = 256;
const BATCH_DELAY_MS = 2_000;
const SEND_TIMEOUT_MS = 5_000;

/** Where traces go. */
export interface ExportOptions {
  /** URL of the collector; `/v1/traces` is added, as for every OTLP endpoint. */
  readonly endpoint: string;
  /** Name of this compute host. */
  readonly host: string;
  readonly logger: Logger;
  /** How long sending a batch may take, with all attempts; 5 s unless told. */
  readonly sendTimeoutMs?: number;
}

/** Traces being exported. */
export interface Tracing {
  /** Sends what is left, for a few seconds at most. */
  close(): Promise<void>;
}

/** Makes OpenTelemetry's API, which is idle otherwise, record and export. Once in a process at a time. */
export async function exportTraces({
  endpoint,
  host,
  logger,
  sendTimeoutMs = SEND_TIMEOUT_MS,
}: ExportOptions): Promise<Tracing> {
  // Most hosts export nothing, and are spared the 16 MB and 0.2 s of loading this.
  const [hooks, core, otlp, resources, sdk] = await Promise.all([
    import('@opentelemetry/context-async-hooks'),
    import('@opentelemetry/core'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/sdk-trace'),
  ]);
  const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`;
  const exporter = new ToldExporter(
    new otlp.OTLPTraceExporter({ url, timeoutMillis: sendTimeoutMs }),
    (lost) => {
      if (lost === null) logger.info(`traces are taken again by ${endpoint}`);
      else logger.warn(`traces are lost until ${endpoint} takes them: ${describeError(lost)}`);
    },
  );
  const provider = new sdk.TracerProvider({
    resource: resources.defaultResource().merge(
      resources.resourceFromAttributes({
        'service.name': 'prebake-compute',
        'service.version': readVersion(),
        'host.name': host,
      }),
    ),
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter,
        maxQueueSize: QUEUE_SPANS,
        maxExportBatchSize: BATCH_SPANS,
        scheduledDelayMillis: BATCH_DELAY_MS,
        exportTimeoutMillis: sendTimeoutMs,
      }),
    ],
  });
  context.setGlobalContextManager(new hooks.AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new core.W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(provider);
  return {
    close: async () => {
      trace.disable();
      propagation.disable();
      context.disable();
      // What cannot be sent has been told of.
      await provider.shutdown().catch(() => undefined);
    },
  };
}

/** Tells when sending begins to fail, and when it works again. */
class ToldExporter implements SpanExporter {
  private failing = false;

  constructor(
    private readonly exporter: SpanExporter,
    /** @param lost the reason; null when it works again */
    private readonly tell: (lost: Error | null) => void,
  ) {}

  export(spans: ReadableSpan[], onResult: (result: ExportResult) => void): void {
    this.exporter.export(spans, (result) => {
      // A failure always has its error.
      const { error } = result;
      if ((error !== undefined) !== this.failing) {
        this.failing = !this.failing;
        this.tell(error ?? null);
      }
      onResult(result);
    });
  }

  shutdown(): Promise<void> {
    return this.exporter.shutdown();
  }
}
