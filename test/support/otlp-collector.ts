/** A collector of traces: takes OTLP over HTTP as JSON, as its specification has it, and keeps the spans. */
import { EventEmitter, once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { z } from 'zod';

const ARRIVAL_TIMEOUT_MS = 15_000;

const valueSchema = z.union([
  z.strictObject({ stringValue: z.string() }).transform(({ stringValue }) => stringValue),
  z.strictObject({ intValue: z.coerce.number() }).transform(({ intValue }) => intValue),
  z.looseObject({}).transform(() => undefined),
]);
const attributesSchema = z
  .array(z.strictObject({ key: z.string(), value: valueSchema }))
  .default([])
  .transform((pairs) => Object.fromEntries(pairs.map(({ key, value }) => [key, value])));
const traceIdSchema = z.string().regex(/^[0-9a-f]{32}$/);
const spanIdSchema = z.string().regex(/^[0-9a-f]{16}$/);
const nanosSchema = z.string().regex(/^\d+$/).transform(BigInt);
const spanSchema = z.looseObject({
  traceId: traceIdSchema,
  spanId: spanIdSchema,
  parentSpanId: spanIdSchema.optional(),
  name: z.string(),
  /** 1 internal, 3 client, 5 consumer. */
  kind: z.number(),
  startTimeUnixNano: nanosSchema,
  endTimeUnixNano: nanosSchema,
  attributes: attributesSchema,
  events: z.array(z.looseObject({ name: z.string(), timeUnixNano: nanosSchema })).default([]),
  links: z.array(z.looseObject({ traceId: traceIdSchema, spanId: spanIdSchema })).default([]),
  status: z.looseObject({ code: z.number().default(0), message: z.string().optional() }),
});
const requestSchema = z.strictObject({
  resourceSpans: z.array(
    z.looseObject({
      resource: z.looseObject({ attributes: attributesSchema }),
      scopeSpans: z.array(z.looseObject({ spans: z.array(spanSchema) })),
    }),
  ),
});
/** A span as it arrived. */
export type CollectedSpan = z.infer<typeof spanSchema> & {
  readonly resource: Readonly<Record<string, unknown>>;
};

/** Listens on a port of loopback. */
export class OtlpCollector {
  readonly spans: CollectedSpan[] = [];
  readonly headers: IncomingHttpHeaders[] = [];
  /** What was not OTLP. */
  readonly complaints: string[] = [];
  private readonly arrivals = new EventEmitter();
  private readonly server: Server;

  private constructor() {
    this.server = createServer((request, response) => {
      this.headers.push(request.headers);
      json(request).then(
        (body) => {
          const complaint = request.url === '/v1/traces' ? this.take(body) : `a request to ${request.url}`;
          if (complaint !== null) this.complaints.push(complaint);
          this.arrivals.emit('spans');
          response
            .writeHead(complaint === null ? 200 : 400, { 'Content-Type': 'application/json' })
            .end('{}');
        },
        (error: unknown) => response.destroy(error as Error),
      );
    });
  }

  static async start(port = 0): Promise<OtlpCollector> {
    const collector = new OtlpCollector();
    collector.server.listen(port, '127.0.0.1');
    await once(collector.server, 'listening');
    return collector;
  }

  /** `[prebake] otlp_endpoint`. */
  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Spans of one trace, by when they began. */
  trace(traceId: string): CollectedSpan[] {
    return this.spans
      .filter((span) => span.traceId === traceId)
      .sort((a, b) => Number(a.startTimeUnixNano - b.startTimeUnixNano));
  }

  /** Waits for a span of this name and trace. */
  async arrival(name: string, traceId: string): Promise<CollectedSpan> {
    const signal = AbortSignal.timeout(ARRIVAL_TIMEOUT_MS);
    for (;;) {
      const span = this.trace(traceId).find((one) => one.name === name);
      if (span !== undefined) return span;
      await once(this.arrivals, 'spans', { signal });
    }
  }

  async stop(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    this.server.closeAllConnections();
    await closed;
  }

  private take(body: unknown): string | null {
    const parsed = requestSchema.safeParse(body);
    if (!parsed.success) return z.prettifyError(parsed.error);
    for (const { resource, scopeSpans } of parsed.data.resourceSpans) {
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        this.spans.push({ ...span, resource: resource.attributes });
      }
    }
    return null;
  }
}
