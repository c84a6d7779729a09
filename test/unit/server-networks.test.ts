/** Ports of servers come, are bound and go, against a Neutron in memory that can be made to fail. */
import pino from 'pino';
import {
  ExternalNetworkAttachForbidden,
  NetworkAmbiguous,
  NoMoreFixedIps,
  PortLimitExceeded,
  PortNotUsable,
  SecurityGroupCannotBeApplied,
  SecurityGroupNotFound,
  ServerNetworks,
  type AllocationRequest,
  type AttachRequest,
} from '../../lib/compute/network';
import { NetworkNotFound, PortBindingFailed, PortInUse, PortNotFound } from '../../lib/exceptions';
import { KeystoneSession, Neutron } from '../../lib/openstack';
import { LocalCloud, type Answer, type Seen } from '../support/local-cloud';
import { recordedCreate } from '../support/recorded';
import { requestList } from '../support/requested-networks';

type Fields = Record<string, unknown>;

const PROJECT = String(recordedCreate.network['tenant_id']);
const SERVER = { uuid: '670ec4e9-53c3-41c8-964d-f2a95d9dba70', projectId: PROJECT };
const NETWORK = String(recordedCreate.network['id']);

let cloud: LocalCloud;
let session: KeystoneSession;
let networks: ServerNetworks;
let ports: Map<string, Fields>;
let tables: Record<'networks' | 'security-groups' | 'extensions', Fields[]>;
/** Asked before a port is made or changed; what it returns is answered instead. */
let refuse: (request: Seen, fields: Fields) => Answer | undefined;

beforeEach(async () => {
  ports = new Map();
  refuse = () => undefined;
  tables = { networks: [{ ...recordedCreate.network }], 'security-groups': [], extensions: [] };
  cloud = await LocalCloud.start(answer);
  session = new KeystoneSession(
    { authUrl: cloud.url, username: 'neutron', password: 'secret', projectName: 'service' },
    pino({ level: 'silent' }),
  );
  networks = new ServerNetworks({
    neutron: new Neutron(session),
    host: 'here',
    logger: pino({ level: 'silent' }),
  });
});

afterEach(async () => {
  session.close();
  await cloud.stop();
});

function answer(request: Seen): Answer | undefined {
  const { method, path, query } = request;
  const [, , collection = '', id] = path.split('/');
  if (collection === 'floatingips') return { status: 404, body: recordedCreate.noFloatingIps };
  if (collection === 'subnets') return { status: 200, body: { subnets: [recordedCreate.subnet] } };
  if (collection in tables) {
    const rows = tables[collection as keyof typeof tables].filter((row) => matches(row, query));
    return { status: 200, body: { [collection.replace('-', '_')]: rows } };
  }
  if (collection !== 'ports') return undefined;
  if (method === 'GET' && id === undefined) {
    return { status: 200, body: { ports: [...ports.values()].filter((port) => matches(port, query)) } };
  }
  const fields = (request.body as { port?: Fields } | null)?.port ?? {};
  const refused = method === 'GET' ? undefined : refuse(request, fields);
  if (refused !== undefined) return refused;
  if (method === 'POST') return { status: 201, body: { port: store(`port-${ports.size + 1}`, fields) } };
  const known = ports.get(id ?? '');
  if (known === undefined)
    return { status: 404, body: { NeutronError: { type: 'PortNotFound', message: 'no' } } };
  if (method === 'DELETE') {
    ports.delete(id ?? '');
    return { status: 204 };
  }
  return { status: 200, body: { port: method === 'PUT' ? store(id ?? '', fields) : known } };
}

function matches(row: Fields, query: URLSearchParams): boolean {
  return [...new Set(query.keys())].every((key) =>
    query.getAll(key).some((value) => value.toLowerCase() === String(row[key]).toLowerCase()),
  );
}

/** Neutron's side of a write: an unbound port gets its binding from the host. */
function store(id: string, fields: Fields): Fields {
  const unbound = { ...recordedCreate.port, id, device_id: '', device_owner: '', 'binding:host_id': '' };
  const port: Fields = {
    ...unbound,
    ...ports.get(id),
    ...fields,
    fixed_ips: recordedCreate.port['fixed_ips'],
  };
  port['binding:vif_type'] = port['binding:host_id'] === 'here' ? 'bridge' : 'unbound';
  if (port['network_id'] === 'unbindable' && port['binding:host_id'] === 'here')
    port['binding:vif_type'] = 'binding_failed';
  ports.set(id, port);
  return port;
}

function network(id: string, changes: Fields = {}): void {
  tables.networks.push({ ...recordedCreate.network, id, ...changes });
}

function userPort(id: string, changes: Fields = {}): Fields {
  return store(id, { network_id: NETWORK, tenant_id: PROJECT, ...changes });
}

function request(asked: readonly Fields[], changes: Partial<AllocationRequest> = {}): AllocationRequest {
  return {
    instanceUuid: SERVER.uuid,
    projectId: PROJECT,
    hostname: 'ref1',
    availabilityZone: 'nova',
    requestedNetworks: requestList(...asked),
    securityGroups: ['default'],
    signal: new AbortController().signal,
    ...changes,
  };
}

function writes(): Seen[] {
  return cloud.seen.filter(({ method, path }) => method !== 'GET' && path.startsWith('/v2.0/'));
}

describe('allocation', () => {
  test('asks Neutron in one request for what nova-compute asks in two', async () => {
    const info = await networks.allocate(request([{ network_id: NETWORK }]));
    expect(writes().map(({ body }) => body)).toEqual([
      {
        port: {
          ...recordedCreate.createPort.port,
          ...recordedCreate.updatePort.port,
          'binding:host_id': 'here',
        },
      },
    ]);
    expect(info).toMatchObject([{ id: 'port-1', type: 'bridge', active: false, preserve_on_delete: false }]);
  });

  test('looks around, but makes nothing, before the server is known to be ours', async () => {
    const calls = (): string[] => cloud.calls.filter((call) => !call.endsWith('/extensions'));
    let confirm = (): void => undefined;
    const ours = new Promise<void>((resolve) => {
      confirm = resolve;
    });
    const allocation = networks.allocate(request([{ network_id: NETWORK }], { ours }));
    while (calls().length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(calls()).toEqual(['GET /v2.0/networks']);
    confirm();
    await allocation;
    expect(writes()).toHaveLength(1);
    const lost = new Error('the server is gone');
    await expect(
      networks.allocate(request([{ network_id: NETWORK }], { ours: Promise.reject(lost) })),
    ).rejects.toBe(lost);
    expect(writes()).toHaveLength(1);
  });

  test("asks for floating IPs of the user's ports only: new ones have none", async () => {
    await networks.allocate(request([{ network_id: NETWORK }]));
    expect(cloud.calls).not.toContain('GET /v2.0/floatingips');
    userPort('mine');
    await networks.allocate(request([{ network_id: NETWORK }, { port_id: 'mine' }]));
    const asked = cloud.seen.filter(({ path }) => path === '/v2.0/floatingips');
    expect(asked.map(({ query }) => query.getAll('port_id'))).toEqual([['mine']]);
  });

  test('keeps the order that was asked for, ports of the user among new ones', async () => {
    network('second');
    const profile = { trusted: true };
    userPort('mine', { 'binding:profile': profile });
    const info = await networks.allocate(
      request([{ network_id: 'second' }, { port_id: 'mine' }, { network_id: NETWORK }]),
    );
    expect(info.map((vif) => [vif.network.id, vif.preserve_on_delete])).toEqual([
      ['second', false],
      [NETWORK, true],
      [NETWORK, false],
    ]);
    expect(ports.get('mine')).toMatchObject({
      device_id: SERVER.uuid,
      device_owner: 'compute:nova',
      'binding:host_id': 'here',
      'binding:profile': profile,
    });
  });

  test('takes the only network when none was named, none when there is none, and does not guess', async () => {
    await expect(networks.allocate(request([]))).resolves.toHaveLength(1);
    network('second');
    await expect(networks.allocate(request([]))).rejects.toBeInstanceOf(NetworkAmbiguous);
    await expect(networks.allocate(request([{ network_id: 'none' }]))).resolves.toEqual([]);
    tables.networks = [];
    await expect(networks.allocate(request([]))).resolves.toEqual([]);
    await expect(networks.allocate(request([{ network_id: 'gone' }]))).rejects.toBeInstanceOf(
      NetworkNotFound,
    );
  });

  test("looks for networks, and asks for an address, in the user's name", async () => {
    const requester = { authToken: 'of-the-user', isAdmin: false };
    await networks.allocate(request([{ network_id: NETWORK, address: '10.77.0.9' }], { requester }));
    const [list] = cloud.seen.filter(({ path }) => path === '/v2.0/networks');
    expect(list?.headers['x-auth-token']).toBe('of-the-user');
    const [create, bind] = writes();
    expect(create?.headers['x-auth-token']).toBe('of-the-user');
    expect(create?.body).toEqual({
      port: { ...recordedCreate.createPort.port, fixed_ips: [{ ip_address: '10.77.0.9' }] },
    });
    expect(bind?.headers['x-auth-token']).toBe('token-1');
    expect(bind?.body).toEqual({ port: { ...recordedCreate.updatePort.port, 'binding:host_id': 'here' } });
  });

  test('names the port after the server where Neutron does DNS', async () => {
    tables.extensions = [{ alias: 'dns-integration' }];
    network('external-dns', { dns_domain: 'example.org.' });
    const requester = { authToken: 'of-the-user', isAdmin: false };
    await networks.allocate(
      request([{ network_id: NETWORK }, { network_id: 'external-dns' }], { requester }),
    );
    const names = writes().filter(({ body }) => 'dns_name' in (body as { port: Fields }).port);
    expect(names.map(({ method, headers }) => [method, headers['x-auth-token']])).toEqual([
      ['POST', 'token-1'],
      ['PUT', 'of-the-user'],
    ]);
    expect([...ports.values()].map((port) => port['dns_name'])).toEqual(['ref1', 'ref1']);
  });

  test('gives ports the security groups by id or name', async () => {
    tables['security-groups'] = [
      { id: 'g1', name: 'web', tenant_id: PROJECT },
      { id: 'g2', name: 'db', tenant_id: PROJECT },
      { id: 'g3', name: 'web', tenant_id: 'another' },
    ];
    await networks.allocate(request([{ network_id: NETWORK }], { securityGroups: ['web', 'g2'] }));
    expect(ports.get('port-1')).toMatchObject({ security_groups: ['g1', 'g2'] });
    const unknown = request([{ network_id: NETWORK }], { securityGroups: ['g3'] });
    await expect(networks.allocate(unknown)).rejects.toBeInstanceOf(SecurityGroupNotFound);
    network('open', { port_security_enabled: false });
    const open = request([{ network_id: 'open' }], { securityGroups: ['web'] });
    await expect(networks.allocate(open)).rejects.toBeInstanceOf(SecurityGroupCannotBeApplied);
  });

  test('only an admin attaches a server to an external network', async () => {
    network('outside', { 'router:external': true, shared: false });
    const asked = [{ network_id: 'outside' }];
    await expect(networks.allocate(request(asked))).rejects.toBeInstanceOf(ExternalNetworkAttachForbidden);
    const requester = { authToken: null, isAdmin: true };
    await expect(networks.allocate(request(asked, { requester }))).resolves.toHaveLength(1);
  });

  test.each([
    ['is not there', 'nowhere', {}, PortNotFound],
    ["is another project's", 'mine', { tenant_id: 'another' }, PortNotUsable],
    ['belongs to another server', 'mine', { device_id: 'another server' }, PortInUse],
  ])('a port that %s is left alone', async (_what, id, changes, exception) => {
    userPort('mine', changes);
    await expect(networks.allocate(request([{ port_id: id }]))).rejects.toBeInstanceOf(exception);
    expect(writes()).toEqual([]);
  });
});

test('what Neutron can do is learned ahead of the first server', async () => {
  const neutron = new Neutron(session);
  await neutron.prepare();
  const calls = cloud.seen.length;
  await neutron.hasExtension('dns-integration');
  expect(cloud.calls).toEqual(['GET /v2.0/extensions']);
  expect(cloud.seen).toHaveLength(calls);
});

test('what Neutron can do is learned again while the old answer is still good enough', async () => {
  const neutron = new Neutron(session);
  tables.extensions = [{ alias: 'old' }];
  await neutron.prepare();
  tables.extensions = [{ alias: 'new' }];
  const clock = jest.spyOn(Date, 'now').mockReturnValue(Date.now() + 601_000);
  try {
    await expect(neutron.hasExtension('old')).resolves.toBe(true);
    while (!(await neutron.hasExtension('new'))) await new Promise((resolve) => setImmediate(resolve));
    await expect(neutron.hasExtension('old')).resolves.toBe(false);
  } finally {
    clock.mockRestore();
  }
  expect(cloud.calls).toEqual(['GET /v2.0/extensions', 'GET /v2.0/extensions']);
});

describe('a failed allocation', () => {
  const both = [{ network_id: NETWORK }, { port_id: 'mine' }];

  test('deletes what was made and lets go of what was bound', async () => {
    network('unbindable');
    userPort('mine', { 'binding:profile': { trusted: true, pci_slot: '0000:01' } });
    const failure = networks.allocate(request([...both, { network_id: 'unbindable' }]));
    await expect(failure).rejects.toBeInstanceOf(PortBindingFailed);
    expect([...ports.keys()]).toEqual(['mine']);
    expect(ports.get('mine')).toMatchObject({
      device_id: '',
      device_owner: '',
      'binding:host_id': null,
      'binding:profile': { trusted: true },
    });
  });

  test('because the server was deleted meanwhile leaves nothing either', async () => {
    const abort = new AbortController();
    const reason = new Error('deleted');
    refuse = ({ method }) => {
      if (method === 'POST') abort.abort(reason);
      return undefined;
    };
    await expect(networks.allocate(request(both.slice(0, 1), { signal: abort.signal }))).rejects.toBe(reason);
    expect([...ports.keys()]).toEqual([]);
  });

  test.each([
    ['OverQuota', 409, PortLimitExceeded],
    ['IpAddressGenerationFailure', 409, NoMoreFixedIps],
  ])('tells the user about %s', async (type, status, exception) => {
    refuse = ({ method }) =>
      method === 'POST' ? { status, body: { NeutronError: { type, message: 'no' } } } : undefined;
    await expect(networks.allocate(request(both.slice(0, 1)))).rejects.toBeInstanceOf(exception);
  });

  test('keeps its own reason when cleaning up fails as well', async () => {
    network('unbindable');
    refuse = ({ method }) => (method === 'DELETE' ? { status: 500 } : undefined);
    await expect(networks.allocate(request([{ network_id: 'unbindable' }]))).rejects.toBeInstanceOf(
      PortBindingFailed,
    );
  });
});

describe('one more NIC', () => {
  const asked = (requested: AttachRequest['requested']): AttachRequest => ({ ...request([]), requested });
  const onNetwork = (networkId: string) =>
    asked({ kind: 'these', nics: [{ networkId, address: null, portId: null, tag: null }] });

  test('is a bound port; the others stay', async () => {
    const [first] = await networks.allocate(request([{ network_id: NETWORK }]));
    const vif = await networks.attach(onNetwork(NETWORK));
    expect(vif).toMatchObject({ type: 'bridge', preserve_on_delete: false });
    expect([...ports.keys()].sort()).toEqual([first?.id, vif?.id].sort());
    await networks.detach(SERVER, vif?.id ?? '', false);
    expect([...ports.keys()]).toEqual([first?.id]);
  });

  test("is a port of the user's, let go of when it is taken away", async () => {
    userPort('mine');
    const vif = await networks.attach(asked({ kind: 'these', nics: [{ portId: 'mine', tag: null }] }));
    expect(vif).toMatchObject({ id: 'mine', preserve_on_delete: true });
    await networks.detach(SERVER, 'mine', true);
    expect(ports.get('mine')).toMatchObject({ device_id: '', 'binding:host_id': null });
  });

  test('that cannot be bound leaves the ports there were, and only those', async () => {
    network('unbindable');
    const [first] = await networks.allocate(request([{ network_id: NETWORK }]));
    await expect(networks.attach(onNetwork('unbindable'))).rejects.toThrow(PortBindingFailed);
    expect([...ports.keys()]).toEqual([first?.id]);
  });

  test('is none where the project has no network', async () => {
    tables.networks = [];
    expect(await networks.attach(asked({ kind: 'any' }))).toBeNull();
  });
});

describe('deallocation', () => {
  test("deletes made ports, keeps the user's, and touches nobody else's", async () => {
    userPort('mine');
    userPort('foreign', { tenant_id: 'another', device_id: SERVER.uuid });
    const info = await networks.allocate(request([{ network_id: NETWORK }, { port_id: 'mine' }]));
    await networks.deallocate(SERVER, info);
    expect([...ports.keys()].sort()).toEqual(['foreign', 'mine']);
    expect(ports.get('mine')).toMatchObject({ device_id: '' });
    expect(ports.get('foreign')).toMatchObject({ device_id: SERVER.uuid });
    await networks.deallocate(SERVER, info);
  });

  test('tries every port before it complains', async () => {
    const info = await networks.allocate(request([{ network_id: NETWORK }, { network_id: NETWORK }]));
    refuse = ({ method, path }) =>
      method === 'DELETE' && path.endsWith('port-1') ? { status: 500 } : undefined;
    await expect(networks.deallocate(SERVER, info)).rejects.toMatchObject({ status: 500 });
    expect([...ports.keys()]).toEqual(['port-1']);
  });
});

describe('a server that has its ports', () => {
  test('is described anew in the old order, with what was added and without what went', async () => {
    const three = [{ network_id: NETWORK }, { network_id: NETWORK }, { network_id: NETWORK }];
    const [a, b, c] = await networks.allocate(request(three));
    if (a === undefined || b === undefined || c === undefined) throw new Error('three NICs were asked for');
    store('port-2', { status: 'ACTIVE' });
    ports.delete('port-1');
    store('port-9', { device_id: SERVER.uuid, network_id: NETWORK });
    const again = await networks.refresh(SERVER, [c, { ...b, preserve_on_delete: true }, a]);
    expect(again.map((vif) => [vif.id, vif.active, vif.preserve_on_delete])).toEqual([
      [c.id, false, false],
      [b.id, b.id === 'port-2', true],
      ['port-9', false, false],
    ]);
  });

  test('takes them along to this host', async () => {
    const info = await networks.allocate(request([{ network_id: NETWORK }, { network_id: NETWORK }]));
    store('port-1', { 'binding:host_id': 'there', 'binding:profile': { pci_slot: '0000:01', kept: 1 } });
    const before = writes().length;
    await expect(networks.moveHere(SERVER, info)).resolves.toMatchObject([
      { type: 'bridge' },
      { type: 'bridge' },
    ]);
    expect(writes().slice(before)).toMatchObject([
      {
        path: '/v2.0/ports/port-1',
        body: { port: { 'binding:host_id': 'here', 'binding:profile': { kept: 1 } } },
      },
    ]);
  });
});
