/** The service's clients and its handling of a server's network, against the real cloud that `devstack/all-in-one` runs. */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { z } from 'zod';
import { loadConfig, loginFrom, type Config, type LoginSection } from '../../lib/config';
import { ServerNetworks } from '../../lib/compute/network';
import { ImageNotFound, PortBindingFailed, PortInUse } from '../../lib/exceptions';
import {
  Glance,
  HttpError,
  KeystoneSession,
  Neutron,
  Placement,
  ProviderNameTaken,
  type Inventory,
} from '../../lib/openstack';
import { ServiceClient } from '../../lib/openstack/service-client';
import { requestList } from '../support/requested-networks';

const CLOUD = process.env['PREBAKE_CLOUD'] ?? '/srv/prebake-cloud';
const logger = pino({ level: 'silent' });
const sessions: KeystoneSession[] = [];
let config: Config;

beforeAll(async () => {
  config = await loadConfig([join(CLOUD, 'etc/nova-compute.conf')]);
});

afterAll(() => {
  for (const session of sessions) session.close();
});

describe('Keystone', () => {
  test('names the endpoints of the services', async () => {
    const session = sessionOf('placement');
    await expect(session.endpoint('network')).resolves.toMatch(/^http:/);
    await expect(session.endpoint('image', { regionName: 'nowhere' })).rejects.toThrow(/region nowhere/);
  });

  test('refuses a wrong password, which the error does not repeat', async () => {
    const session = new KeystoneSession(
      { ...loginFrom(config, 'placement'), password: 'wrong-secret' },
      logger,
    );
    sessions.push(session);
    const failure: unknown = await session.token().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(HttpError);
    expect((failure as HttpError).status).toBe(401);
    expect(JSON.stringify(failure) + String((failure as HttpError).stack)).not.toContain('wrong-secret');
  });
});

describe('Glance', () => {
  test('gives an image with the checksum it promised, and nothing beside it', async () => {
    const glance = new Glance(sessionOf('serviceUser'));
    const [tiny] = await glance.findByName('tiny');
    const directory = await mkdtemp(join(tmpdir(), 'prebake-glance-'));
    try {
      const path = join(directory, 'image');
      const seen: number[] = [];
      const onProgress = ({ receivedBytes }: { receivedBytes: number }) => seen.push(receivedBytes);
      const image = await glance.download(tiny?.id ?? '', path, { onProgress });
      expect(image).toMatchObject({ name: 'tiny', diskFormat: 'qcow2', status: 'active' });
      expect((await stat(path)).size).toBe(image.sizeBytes);
      expect(await digestOf(path, 'md5')).toBe(image.checksum);
      expect(seen.at(-1)).toBe(image.sizeBytes);
      expect(await readdir(directory)).toEqual(['image']);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test('deletes an image, and does not mind one that is gone', async () => {
    const session = sessionOf('serviceUser');
    const glance = new Glance(session);
    const body = { name: 'to be deleted', disk_format: 'raw', container_format: 'bare' };
    const call = { method: 'POST', path: '/v2/images', body } as const;
    const { id } = await new ServiceClient(session, 'image').request(z.object({ id: z.string() }), call);
    await glance.delete(id);
    await expect(glance.show(id)).rejects.toThrow(ImageNotFound);
    await glance.delete(id);
  });

  test('knows no image that is not there', async () => {
    await expect(new Glance(sessionOf('serviceUser')).show(randomUUID())).rejects.toThrow(ImageNotFound);
  });
});

const TRAITS_API = { 'OpenStack-API-Version': 'placement 1.6' };

describe('Placement', () => {
  const providers: string[] = [];
  let placement: Placement;
  let raw: ServiceClient;

  beforeAll(() => {
    placement = new Placement(sessionOf('placement'));
    raw = new ServiceClient(sessionOf('placement'), 'placement');
  });

  afterEach(async () => {
    for (const uuid of providers.splice(0))
      await raw.send({ method: 'DELETE', path: `/resource_providers/${uuid}` });
  });

  afterAll(async () => {
    for (const trait of ['CUSTOM_PREBAKE_TEST', 'CUSTOM_PREBAKE_TEST_RACK']) {
      await raw.send({ method: 'DELETE', path: `/traits/${trait}`, headers: TRAITS_API });
    }
  });

  async function newProvider(): Promise<string> {
    const uuid = randomUUID();
    await placement.ensureProvider(uuid, `test-${uuid}`);
    providers.push(uuid);
    return uuid;
  }

  test('keeps one provider per host, and tells when its name is taken', async () => {
    const uuid = await newProvider();
    await expect(placement.ensureProvider(uuid, `test-${uuid}`)).resolves.toMatchObject({
      uuid,
      generation: 0,
    });
    await expect(placement.ensureProvider(randomUUID(), `test-${uuid}`)).rejects.toThrow(ProviderNameTaken);
  });

  test('writes an inventory only when it is another one', async () => {
    const uuid = await newProvider();
    const inventory = { VCPU: vcpus(8), MEMORY_MB: { ...vcpus(4096), allocation_ratio: 1.15 } };
    await expect(placement.setInventory(uuid, inventory)).resolves.toBe(true);
    await expect(placement.setInventory(uuid, inventory)).resolves.toBe(false);
    await expect(placement.setInventory(uuid, { VCPU: vcpus(4) })).resolves.toBe(true);
    await expect(placement.inventory(uuid)).resolves.toEqual({ VCPU: vcpus(4) });
  });

  test('writers that meet all get through', async () => {
    const uuid = await newProvider();
    await Promise.all([
      placement.setInventory(uuid, { VCPU: vcpus(16) }),
      placement.setTraits(uuid, ['COMPUTE_NODE']),
      placement.setTraits(uuid, ['COMPUTE_NODE']),
    ]);
    expect((await placement.inventory(uuid))['VCPU']?.total).toBe(16);
    expect(await placement.traits(uuid)).toEqual(new Set(['COMPUTE_NODE']));
  });

  test('takes the traits that Placement knows, makes custom ones, leaves the operator his own', async () => {
    const uuid = await newProvider();
    const operators = { method: 'PUT', headers: TRAITS_API } as const;
    await raw.send({ ...operators, path: '/traits/CUSTOM_PREBAKE_TEST_RACK' });
    await raw.send({
      ...operators,
      path: `/resource_providers/${uuid}/traits`,
      body: { resource_provider_generation: 0, traits: ['CUSTOM_PREBAKE_TEST_RACK'] },
    });
    await placement.setTraits(uuid, ['COMPUTE_NODE', 'COMPUTE_NO_SUCH_TRAIT', 'COMPUTE_STATUS_DISABLED']);
    expect([...(await placement.traits(uuid))].sort()).toEqual([
      'COMPUTE_NODE',
      'COMPUTE_STATUS_DISABLED',
      'CUSTOM_PREBAKE_TEST_RACK',
    ]);
    await placement.setTraits(uuid, ['COMPUTE_NODE', 'CUSTOM_PREBAKE_TEST']);
    expect([...(await placement.traits(uuid))].sort()).toEqual([
      'COMPUTE_NODE',
      'CUSTOM_PREBAKE_TEST',
      'CUSTOM_PREBAKE_TEST_RACK',
    ]);
  });

  /** As the scheduler does it. */
  async function allocate(consumer: string, uuid: string, vcpuCount: number, owner: object): Promise<void> {
    const allocations = { [uuid]: { resources: { VCPU: vcpuCount } } };
    await raw.send({
      method: 'PUT',
      path: `/allocations/${consumer}`,
      headers: { 'OpenStack-API-Version': 'placement 1.28' },
      body: { allocations, consumer_generation: null, ...owner },
    });
  }

  test('frees what a server had allocated, once', async () => {
    const uuid = await newProvider();
    const consumer = randomUUID();
    await placement.setInventory(uuid, { VCPU: vcpus(8) });
    await allocate(consumer, uuid, 2, { project_id: randomUUID(), user_id: randomUUID() });
    expect(await placement.allocationsOfProvider(uuid)).toEqual({ [consumer]: { VCPU: 2 } });
    expect((await placement.allocationsOfConsumer(consumer)).byProvider).toEqual({ [uuid]: { VCPU: 2 } });
    await expect(placement.deleteAllocations(consumer)).resolves.toBe(true);
    await expect(placement.deleteAllocations(consumer)).resolves.toBe(false);
    expect(await placement.allocationsOfProvider(uuid)).toEqual({});
  });

  test('gives a server back what its migration held', async () => {
    const uuid = await newProvider();
    const [migration, server] = [randomUUID(), randomUUID()];
    const owner = { project_id: randomUUID(), user_id: randomUUID() };
    await placement.setInventory(uuid, { VCPU: vcpus(8) });
    await allocate(migration, uuid, 1, owner);
    await allocate(server, uuid, 4, owner);
    await placement.moveAllocations(migration, server);
    expect(await placement.allocationsOfProvider(uuid)).toEqual({ [server]: { VCPU: 1 } });
    await placement.moveAllocations(migration, server);
    expect(await placement.allocationsOfProvider(uuid)).toEqual({ [server]: { VCPU: 1 } });
    await placement.deleteAllocations(server);
  });
});

describe('the networks of a server', () => {
  let neutron: Neutron;
  let networkId: string;
  let projectId: string;
  const servers: string[] = [];
  const userPorts: string[] = [];

  beforeAll(async () => {
    neutron = new Neutron(sessionOf('neutron'));
    const [network] = await neutron.listNetworks({ name: 'private' });
    networkId = network?.id ?? '';
    projectId = network?.tenant_id ?? '';
  });

  afterEach(async () => {
    for (const uuid of servers.splice(0)) {
      for (const port of await neutron.listPorts({ device_id: uuid })) await neutron.deletePort(port.id);
    }
    for (const id of userPorts.splice(0)) await neutron.deletePort(id);
  });

  function allocate(networks: ServerNetworks, requested: readonly Record<string, string>[], uuid: string) {
    servers.push(uuid);
    return networks.allocate({
      instanceUuid: uuid,
      projectId,
      hostname: 'guest',
      availabilityZone: 'nova',
      requestedNetworks: requestList(...requested),
      securityGroups: ['default'],
      signal: AbortSignal.timeout(60_000),
    });
  }

  function networksOf(host: string): ServerNetworks {
    return new ServerNetworks({ neutron, host, logger });
  }

  async function portsOf(uuid: string) {
    return neutron.listPorts({ device_id: uuid });
  }

  test('a port is made, bound to this host, described and deleted', async () => {
    const networks = networksOf(config.default.host);
    const uuid = randomUUID();
    const info = await allocate(networks, [{ network_id: networkId }], uuid);
    const [port] = await portsOf(uuid);
    expect(port).toMatchObject({
      device_owner: 'compute:nova',
      'binding:vif_type': 'bridge',
      tenant_id: projectId,
    });
    expect(info).toMatchObject([
      {
        id: port?.id,
        address: port?.mac_address,
        type: 'bridge',
        devname: `tap${port?.id.slice(0, 11) ?? ''}`,
        preserve_on_delete: false,
        network: {
          id: networkId,
          bridge: `brq${networkId.slice(0, 11)}`,
          subnets: [{ version: 4, ips: [{ address: port?.fixed_ips[0]?.ip_address, type: 'fixed' }] }],
          meta: { should_create_bridge: true },
        },
      },
    ]);
    const server = { uuid, projectId };
    await expect(networks.refresh(server, info)).resolves.toMatchObject([
      { id: port?.id, address: port?.mac_address },
    ]);
    await networks.deallocate(server, info);
    expect(await portsOf(uuid)).toEqual([]);
    await networks.deallocate(server, info);
  });

  test("the user's own port comes in its place and survives the server", async () => {
    const networks = networksOf(config.default.host);
    const own = await neutron.createPort({ network_id: networkId, tenant_id: projectId });
    userPorts.push(own.id);
    const uuid = randomUUID();
    const info = await allocate(networks, [{ network_id: networkId }, { port_id: own.id }], uuid);
    expect(info.map((vif) => vif.preserve_on_delete)).toEqual([false, true]);
    expect(info[1]?.id).toBe(own.id);
    await expect(allocate(networks, [{ port_id: own.id }], randomUUID())).rejects.toThrow(PortInUse);
    expect(await portsOf(uuid)).toHaveLength(2);
    await networks.deallocate({ uuid, projectId }, info);
    expect(await neutron.findPort(own.id)).toMatchObject({
      device_id: '',
      device_owner: '',
      'binding:host_id': '',
    });
    expect(await portsOf(uuid)).toEqual([]);
  });

  test('a host without an agent gets no port, and none is left', async () => {
    const own = await neutron.createPort({ network_id: networkId, tenant_id: projectId });
    userPorts.push(own.id);
    const uuid = randomUUID();
    const requested = [{ network_id: networkId }, { port_id: own.id }];
    await expect(allocate(networksOf('no-such-host'), requested, uuid)).rejects.toThrow(PortBindingFailed);
    expect(await portsOf(uuid)).toEqual([]);
    expect(await neutron.findPort(own.id)).toMatchObject({ device_id: '', 'binding:host_id': '' });
  });
});

function sessionOf(section: LoginSection): KeystoneSession {
  const session = new KeystoneSession(loginFrom(config, section), logger);
  sessions.push(session);
  return session;
}

function vcpus(total: number): Inventory {
  return { total, reserved: 0, min_unit: 1, max_unit: total, step_size: 1, allocation_ratio: 16 };
}

async function digestOf(path: string, algorithm: string): Promise<string> {
  const digest = createHash(algorithm);
  for await (const chunk of createReadStream(path)) digest.update(chunk as Buffer);
  return digest.digest('hex');
}
