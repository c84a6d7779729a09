/** A request to another service as a span of the trace it is made for; the service is told by W3C's `traceparent`. */
import { SpanKind, SpanStatusCode, context, propagation, trace } from '@opentelemetry/api';
import { describeError } from '../exceptions';
import { redact } from '../log';

/** What of a request may be seen by who looks at traces. */
export interface TracedRequest {
  readonly method: string;
  /** Without query and user info. */
  readonly url: string;
}

/**
 * Runs `send`, with headers to add. Requests that belong to no trace get none, and are not seen.
 * @param send resolves with the answer, of whatever status
 */
export async function tracedRequest<T extends { readonly status: number }>(
  { method, url }: TracedRequest,
  send: (headers: Readonly<Record<string, string>>) => Promise<T>,
): Promise<T> {
  if (trace.getActiveSpan() === undefined) return send({});
  const attributes = { 'http.request.method': method, 'url.full': url };
  const span = trace
    .getTracer('prebake')
    .startSpan(`${method} ${new URL(url).pathname}`, { kind: SpanKind.CLIENT, attributes });
  const headers: Record<string, string> = {};
  propagation.inject(trace.setSpan(context.active(), span), headers);
  try {
    const answer = await send(headers);
    span.setAttribute('http.response.status_code', answer.status);
    if (answer.status >= 400) span.setStatus({ code: SpanStatusCode.ERROR });
    return answer;
  } catch (error) {
    span.setStatus({ code: SpanStatusCode.ERROR, message: redact(describeError(error)) });
    throw error;
  } finally {
    span.end();
  }
}
