/** Nova's objects survive the way in and out, say what changed, and name what is wrong with them. */
import {
  BlockDeviceMapping,
  ConsoleAuthToken,
  createObject,
  deserialise,
  expectObject,
  Flavor,
  Instance,
  InstanceExternalEvent,
  NetworkRequest,
  NovaObject,
  NovaObjectList,
  ObjectFieldError,
  OBJECT_VERSIONS,
  parseNetworkInfo,
  RequestSpec,
  serialise,
  serialiseNetworkInfo,
  Service,
  UnexpectedObjectError,
} from '../../lib/objects';
import { argsOf, recordedMessages, recordedReply, recordedRequest } from '../support/rpc-recordings';

type Json = Record<string, unknown>;

const build = argsOf(recordedRequest('build_and_run_instance'));

function instance(): Instance {
  return expectObject(structuredClone(build.instance), Instance);
}

/** Lists of changes have no order. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]: [string, unknown]) => [
      key,
      key === 'nova_object.changes' ? (item as string[]).toSorted() : canonical(item),
    ]),
  );
}

/** Every object of a value, the nested ones too. */
function* objectsIn(value: unknown): Generator<Json> {
  if (typeof value !== 'object' || value === null) return;
  if ('nova_object.name' in value) yield value;
  for (const item of Object.values(value)) yield* objectsIn(item);
}

describe('recorded messages', () => {
  const names = new Set(
    recordedMessages.flatMap(({ message }) =>
      [...objectsIn(message)].map((object) => String(object['nova_object.name'])),
    ),
  );

  test('have all the objects a compute service meets', () => {
    for (const name of ['Instance', 'InstanceList', 'Service', 'ComputeNode', 'RequestSpec', 'Migration']) {
      expect(names).toContain(name);
    }
    expect([...names].filter((name) => OBJECT_VERSIONS[name] === undefined)).toEqual([]);
  });

  test.each([...names])('every %s comes out as it went in', (name) => {
    for (const { message } of recordedMessages) {
      for (const object of objectsIn(message)) {
        if (object['nova_object.name'] !== name) continue;
        const read = deserialise(object);
        expect(read).toBeInstanceOf(NovaObject);
        expect(canonical(serialise(read))).toEqual(canonical(withNestedChanges(object)));
      }
    }
  });

  test('a whole message comes out as it went in', () => {
    for (const { message } of recordedMessages) {
      const value = JSON.parse(JSON.stringify(deserialise(message))) as unknown;
      expect(canonical(value)).toEqual(canonical(withNestedChanges(message)));
    }
  });
});

/** A holder counts as changed in a field whose object changed; Nova's own senders do the same when they look. */
function withNestedChanges(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withNestedChanges);
  if (typeof value !== 'object' || value === null) return value;
  const copy: Json = Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, withNestedChanges(item)]),
  );
  const data = copy['nova_object.data'];
  if (typeof data !== 'object' || data === null) return copy;
  const changed = Object.entries(data)
    .filter(([, item]) => hasChanges(item))
    .map(([field]) => field);
  const all = new Set([...((copy['nova_object.changes'] as string[] | undefined) ?? []), ...changed]);
  if (all.size > 0) copy['nova_object.changes'] = [...all];
  else delete copy['nova_object.changes'];
  return copy;
}

function hasChanges(value: unknown): boolean {
  const changes = (value as Json | null)?.['nova_object.changes'];
  return Array.isArray(changes) && changes.length > 0;
}

describe('an object', () => {
  test('tracks what is set to another value', () => {
    const service = createObject(Service, { host: 'a', report_count: 0 });
    expect(service.changes).toEqual(['host', 'report_count']);
    service.resetChanges();
    service.set('report_count', 0);
    expect(service.changes).toEqual([]);
    service.set('report_count', 1);
    expect(service.changes).toEqual(['report_count']);
    expect(service.reportCount).toBe(1);
    expect(service.toPrimitive()).toEqual({
      'nova_object.name': 'Service',
      'nova_object.namespace': 'nova',
      'nova_object.version': '1.22',
      'nova_object.data': { host: 'a', report_count: 1 },
      'nova_object.changes': ['report_count'],
    });
  });

  test('counts a change of a nested object as its own, and forgets both', () => {
    const server = instance();
    server.resetChanges();
    const cache = server.infoCache;
    if (cache === null) throw new Error('no cache');
    cache.set('network_info', '[1]');
    expect(server.changes).toEqual(['info_cache']);
    server.resetChanges();
    expect(server.changes).toEqual([]);
    expect(cache.changes).toEqual([]);
  });

  test('keeps what was set while it was being saved', () => {
    const server = instance();
    server.resetChanges();
    server.update({ vm_state: 'active', task_state: null });
    const sent = server.snapshotChanges();
    server.set('task_state', 'deleting');
    server.acknowledge(
      sent,
      new Map<string, unknown>([
        ['updated_at', '2026-11-22T13:13:50Z'],
        ['task_state', null],
      ]),
      [],
    );
    expect(server.changes).toEqual(['task_state']);
    expect(server.taskState).toBe('deleting');
    expect(server.vmState).toBe('active');
    expect(server.get('updated_at')).toBe('2026-11-22T13:13:50Z');
  });

  test('of a newer minor version keeps the fields nobody knows', () => {
    const newer = structuredClone(build.instance) as Json;
    newer['nova_object.version'] = '2.99';
    (newer['nova_object.data'] as Json).compute_id = { some: ['thing'] };
    const read = expectObject(newer, Instance);
    expect(read.objectVersion).toBe('2.99');
    expect(read.toPrimitive()).toMatchObject({
      'nova_object.version': '2.99',
      'nova_object.data': { compute_id: { some: ['thing'] } },
    });
  });

  test('of another major version is refused', () => {
    const other = { ...(build.instance as Json), 'nova_object.version': '3.0' };
    expect(() => deserialise(other)).toThrow(UnexpectedObjectError);
    expect(() => deserialise(other)).toThrow('Instance 3.0 cannot be read');
  });

  test('of a class nobody here knows passes through', () => {
    const unknown = {
      'nova_object.name': 'Novelty',
      'nova_object.namespace': 'nova',
      'nova_object.version': '7.1',
      'nova_object.data': { a: 1 },
    };
    expect(serialise(deserialise(unknown))).toEqual(unknown);
  });

  test("is not seen in a user's metadata", () => {
    const metadata = { 'nova_object.name': 'Instance', 'nova_object.data': 'x', __proto__x: 'y' };
    expect(deserialise({ metadata })).toEqual({ metadata });
    const odd = JSON.parse('{"__proto__": {"admin": true}}') as unknown;
    expect(JSON.stringify(deserialise(odd))).toBe('{"__proto__":{"admin":true}}');
    expect(({} as Json).admin).toBeUndefined();
  });

  test('names itself and the field that is missing or wrong', () => {
    const flavor = createObject(Flavor, { vcpus: 'two' });
    expect(() => flavor.memoryMb).toThrow(new ObjectFieldError('Flavor', 'memory_mb', 'is not loaded'));
    expect(() => flavor.vcpus).toThrow(/^Flavor\.vcpus has an unexpected value: .*expected number/);
    expect(() => expectObject(build.request_spec, Instance)).toThrow('expected a Instance, got RequestSpec');
    expect(() => expectObject(null, Instance)).toThrow('expected a Instance, got null');
  });

  test('writes dates as Nova does', () => {
    const service = createObject(Service, { last_seen_up: new Date('2026-11-22T12:55:56.789Z') });
    expect(service.toPrimitive()['nova_object.data']).toEqual({ last_seen_up: '2026-11-22T12:55:56Z' });
  });
});

describe('typed fields', () => {
  test('of an instance', () => {
    const server = instance();
    expect(server.uuid).toMatch(/^[0-9a-f-]{36}$/);
    expect(server.flavor.memoryMb).toBe(64);
    expect(server.flavor.name).toBe('m1.nano');
    expect(server.configDrive).toBe(false);
    expect(server.keypairs).toEqual([]);
    expect(server.networkInfo).toEqual([]);
    expect(server.metadata).toEqual({ k: 'v' });
    expect(server.systemMetadata.image_disk_format).toBe('qcow2');
    server.set('config_drive', 'True');
    expect(server.configDrive).toBe(true);
  });

  test('of an instance make its name by any template', () => {
    const server = instance();
    server.set('id', 42);
    expect(server.nameFrom('instance-%08x')).toBe('instance-0000002a');
    expect(server.nameFrom('vm-%d-100%%')).toBe('vm-42-100%');
    expect(server.nameFrom('u-%(uuid)s')).toBe(`u-${server.uuid}`);
  });

  test('of what comes with a build', () => {
    const [disk] = expectObject(build.block_device_mapping, NovaObjectList).itemsOf(BlockDeviceMapping);
    expect(disk).toMatchObject({ sourceType: 'image', destinationType: 'local', bootIndex: 0 });
    const [network] = expectObject(build.requested_networks, NovaObjectList).itemsOf(NetworkRequest);
    expect(network?.networkId).toMatch(/^[0-9a-f-]{36}$/);
    expect(network?.portId).toBeNull();
    const spec = expectObject(build.request_spec, RequestSpec);
    expect(spec.image?.diskFormat).toBe('qcow2');
    expect(spec.image?.properties.objectName).toBe('ImageMetaProps');
  });

  test('of an external event', () => {
    const events = deserialise(argsOf(recordedRequest('external_instance_event')).events) as unknown[];
    const event = expectObject(events[0], InstanceExternalEvent);
    expect(event.name).toMatch(/^network-/);
  });

  test('of a console token make the URL that Nova makes', () => {
    const token = createObject(ConsoleAuthToken, {
      console_type: 'novnc',
      access_url_base: 'http://127.0.0.1:6080/vnc_auto.html',
      token: 'not-recorded',
    });
    const reply = recordedReply(recordedRequest('get_vnc_console'));
    expect(token.accessUrl).toBe((reply.result as Json).access_url);
  });
});

describe('a network description', () => {
  const recorded = recordedMessages
    .flatMap(({ message }) => [...objectsIn(message)])
    .filter((object) => object['nova_object.name'] === 'InstanceInfoCache')
    .map((object) => (object['nova_object.data'] as Json).network_info)
    .filter((text): text is string => typeof text === 'string' && text !== '[]');

  test('is recorded', () => {
    expect(recorded.length).toBeGreaterThan(0);
  });

  test('comes out as it went in, unknown keys too', () => {
    for (const text of recorded) {
      const plus = text.replace('"devname"', '"novelty": {"a": [1]}, "devname"');
      expect(JSON.parse(serialiseNetworkInfo(parseNetworkInfo(plus)))).toEqual(JSON.parse(plus));
    }
  });

  test('is typed', () => {
    const [vif] = parseNetworkInfo(recorded[0] ?? '');
    expect(vif?.network.subnets[0]?.ips[0]?.address).toMatch(/^10\.77\.0\.\d+$/);
    expect(vif?.network.bridge).toBe(`brq${vif?.network.id.slice(0, 11) ?? ''}`);
  });

  test('that is none is refused with the place that is wrong', () => {
    expect(() => parseNetworkInfo('{')).toThrow('InstanceInfoCache.network_info is not JSON');
    expect(() => parseNetworkInfo('[{"id": 1}]')).toThrow(/network_info has an unexpected value/);
  });
});
