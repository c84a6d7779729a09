/** NetworkRequestList objects as nova-conductor sends them. */
import { deserialise, type NovaObject } from '../../lib/objects';

/** A list of requests; fields that are not given are null. */
export function requestList(...asked: readonly Readonly<Record<string, unknown>>[]): NovaObject {
  const blank = { network_id: null, port_id: null, address: null, tag: null };
  const objects = asked.map((fields) => wrap('NetworkRequest', '1.3', { ...blank, ...fields }));
  return deserialise(wrap('NetworkRequestList', '1.1', { objects })) as NovaObject;
}

function wrap(name: string, version: string, data: unknown): unknown {
  return {
    'nova_object.name': name,
    'nova_object.namespace': 'nova',
    'nova_object.version': version,
    'nova_object.data': data,
  };
}
