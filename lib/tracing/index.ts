/**
 * Traces of boots and bakes for who collects them, by OpenTelemetry. Timelines (`lib/timeline.ts`) make them, the log
 * and the calls to other services carry their ids; here they are sent, when `[prebake] otlp_endpoint` says where to.
 */
import type { Config } from '../config';
import type { Logger } from '../log';
import { type Tracing, exportTraces } from './exporting';

export { type ExportOptions, type Tracing, exportTraces } from './exporting';
export { requestTrace } from './request-trace';

/** Begins to export; without an endpoint nothing is done. */
export async function startTracing(config: Config, logger: Logger): Promise<Tracing> {
  const { otlpEndpoint } = config.prebake;
  if (otlpEndpoint === null) return { close: () => Promise.resolve() };
  return await exportTraces({ endpoint: otlpEndpoint, host: config.default.host, logger });
}
