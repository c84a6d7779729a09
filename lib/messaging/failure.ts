/** Exceptions on the wire: what a failed call is answered with, and what such an answer means. */
import { z } from 'zod';
import { NovaException } from '../exceptions';
import { RemoteError } from './errors';

const failureSchema = z.object({
  class: z.string(),
  module: z.string().nullish(),
  message: z.unknown(),
  args: z.array(z.unknown()).catch([]),
  kwargs: z.record(z.string(), z.unknown()).catch({}),
  tb: z.array(z.string()).catch([]),
});

/** A request names a method or version that this service does not have (oslo_messaging.rpc.dispatcher). */
export class RpcDispatchError extends Error {
  constructor(
    readonly remoteClass: 'NoSuchMethod' | 'UnsupportedVersion',
    message: string,
  ) {
    super(message);
    this.name = 'RpcDispatchError';
  }
}

/**
 * The `failure` text of a reply. Nova's exceptions go under their names, so that the caller can re-raise them; a remote one
 * goes on as it came; of any other error the caller learns only that there was one, and where to look.
 */
export function serialiseFailure(error: unknown, requestId: string): string {
  return JSON.stringify(describeFailure(error, requestId));
}

function describeFailure(error: unknown, requestId: string): Record<string, unknown> {
  if (error instanceof RemoteError) {
    return {
      class: error.remoteClass,
      module: error.remoteModule,
      message: error.message,
      args: error.args,
      kwargs: error.kwargs,
      tb: error.traceback,
    };
  }
  if (error instanceof NovaException) {
    return {
      class: error.name,
      module: error.novaModule,
      message: error.message,
      args: [error.message],
      // Only Nova's own classes take keywords; a builtin with some could not be re-raised.
      kwargs: error.novaModule === 'nova.exception' ? { code: error.code } : {},
      tb: [],
    };
  }
  const dispatch = error instanceof RpcDispatchError;
  const message = dispatch
    ? error.message
    : `The compute service failed unexpectedly; its log has the details under ${requestId}.`;
  return {
    class: dispatch ? error.remoteClass : 'Exception',
    module: dispatch ? 'oslo_messaging.rpc.dispatcher' : 'builtins',
    message,
    args: [message],
    kwargs: {},
    tb: [],
  };
}

/** What the `failure` text of a reply means. Text that is no failure becomes a RemoteError that says so. */
export function deserialiseFailure(failure: string): RemoteError {
  let value: unknown;
  try {
    value = JSON.parse(failure);
  } catch {
    value = undefined;
  }
  const checked = failureSchema.safeParse(value);
  if (!checked.success) {
    return new RemoteError({
      remoteClass: 'Exception',
      remoteModule: 'builtins',
      message: 'the call failed, and the failure could not be read',
      args: [],
      kwargs: {},
      traceback: [],
    });
  }
  const { message } = checked.data;
  return new RemoteError({
    remoteClass: checked.data.class,
    remoteModule: checked.data.module ?? 'builtins',
    message: typeof message === 'string' ? message : JSON.stringify(message ?? ''),
    args: checked.data.args,
    kwargs: checked.data.kwargs,
    traceback: checked.data.tb,
  });
}
