/** Finds the method that a request asks for (oslo_messaging/rpc/dispatcher.py): by namespace, version and name. */
import { RpcDispatchError } from './failure';
import type { Endpoint, RpcHandler } from './types';

/** Whether a server that accepts `accepted` of a major version serves requests of `version`. */
export function isVersionCompatible(accepted: string, version: string): boolean {
  const [acceptedMajor = 0, acceptedMinor = 0] = accepted.split('.').map(Number);
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major === acceptedMajor && minor <= acceptedMinor;
}

/** The handler for a request. @throws RpcDispatchError when no endpoint has it */
export function findHandler(
  endpoints: readonly Endpoint[],
  request: {
    readonly method: string;
    readonly version: string;
    readonly namespace?: string | null | undefined;
  },
): RpcHandler {
  const namespace = request.namespace ?? undefined;
  const compatible = endpoints.filter(
    (endpoint) =>
      endpoint.namespace === namespace &&
      endpoint.versions.some((accepted) => isVersionCompatible(accepted, request.version)),
  );
  for (const endpoint of compatible) {
    const handler = endpoint.methods.get(request.method);
    if (handler !== undefined) return handler;
  }
  if (compatible.length > 0) {
    throw new RpcDispatchError('NoSuchMethod', `Endpoint does not support RPC method ${request.method}`);
  }
  throw new RpcDispatchError(
    'UnsupportedVersion',
    `Endpoint does not support RPC version ${request.version}. Attempted method: ${request.method}`,
  );
}
