/**
 * Where the trace of a request from Nova goes on. Nova's services trace by osprofiler, which puts its ids into the context
 * of each RPC (nova/rpc.py, ProfilerRequestContextSerializer); its OTLP driver makes W3C ids of them, and so does this:
 * the trace is `base_id`, the span the lower half of `parent_id` (osprofiler/drivers/otlp.py). oslo.messaging itself
 * sends no `traceparent`.
 */
import { type SpanContext, TraceFlags, isSpanContextValid } from '@opentelemetry/api';
import type { RequestContext } from '../messaging';
import type { TraceSubject } from '../timeline';

/** A piece of work that a request asked for: below the request's own trace when it has one. */
export function requestTrace(name: string, context: RequestContext): TraceSubject {
  const { requestId, globalRequestId, projectId } = context;
  return {
    name,
    parent: profiled(context),
    attributes: {
      'openstack.request_id': requestId,
      ...(globalRequestId === null ? {} : { 'openstack.global_request_id': globalRequestId }),
      ...(projectId === null ? {} : { 'openstack.project_id': projectId }),
    },
  };
}

function profiled({ profile }: RequestContext): SpanContext | null {
  if (profile === null) return null;
  const hex = (uuid: string): string => uuid.replaceAll('-', '').toLowerCase();
  const parent = {
    traceId: hex(profile.baseId),
    spanId: hex(profile.parentId).slice(16),
    traceFlags: TraceFlags.SAMPLED,
    isRemote: true,
  };
  return isSpanContextValid(parent) ? parent : null;
}
