/** What the service tells Placement, against what nova-compute told it, and what becomes of lost races. */
import pino from 'pino';
import { InventoryInUse, isHttpError, KeystoneSession, Placement, type Inventory } from '../../lib/openstack';
import { LocalCloud, type Answer, type Seen } from '../support/local-cloud';
import { recordedStartup } from '../support/recorded';

const UUID = '5e3cad06-5887-448a-9508-f186edfee65b';
const ROOT = `/resource_providers/${UUID}`;
const VCPU: Inventory = {
  total: 2,
  reserved: 0,
  min_unit: 1,
  max_unit: 2,
  step_size: 1,
  allocation_ratio: 16,
};

let cloud: LocalCloud;
let session: KeystoneSession;
let placement: Placement;

async function start(route: (request: Seen) => Answer | undefined): Promise<void> {
  cloud = await LocalCloud.start(route);
  session = new KeystoneSession(
    { authUrl: cloud.url, username: 'placement', password: 'secret', projectName: 'service' },
    pino({ level: 'silent' }),
  );
  placement = new Placement(session);
}

afterEach(async () => {
  session.close();
  await cloud.stop();
});

/** A provider in memory that answers as Placement does; `conflicts` writes are refused first. */
function provider(conflicts: Answer[] = []): (request: Seen) => Answer | undefined {
  let generation = 0;
  let inventories: unknown = {};
  let traits: unknown = [];
  return ({ method, path, body }) => {
    const resource_provider_generation = generation;
    if (method === 'PUT') {
      const conflict = conflicts.shift();
      if (conflict !== undefined) {
        generation += 1;
        return conflict;
      }
      const sent = body as { inventories?: unknown; traits?: unknown; resource_provider_generation?: number };
      if (sent.resource_provider_generation !== generation) return { status: 409 };
      inventories = sent.inventories ?? inventories;
      traits = sent.traits ?? traits;
      generation += 1;
      return { status: 200, body: { resource_provider_generation: generation, inventories, traits } };
    }
    if (path === `${ROOT}/inventories`)
      return { status: 200, body: { resource_provider_generation, inventories } };
    if (path === `${ROOT}/traits`) return { status: 200, body: { resource_provider_generation, traits } };
    if (path === '/traits') return { status: 200, body: { traits: ['COMPUTE_NODE'] } };
    return undefined;
  };
}

const conflict: Answer = {
  status: 409,
  body: { errors: [{ status: 409, detail: 'generation conflict', code: 'placement.concurrent_update' }] },
};

test('introduces a host with the requests that nova-compute sends', async () => {
  const [find, create, , inventory, known, traits] = recordedStartup.placement;
  await start(({ method, path, query }) => {
    if (method === 'GET' && path === '/resource_providers') return { status: 200, body: find?.response };
    if (method === 'POST' && path === '/resource_providers') return { status: 200, body: create?.response };
    if (method === 'GET' && path === '/traits') {
      // Placement answers what it knows of what is asked, and these are the traits it knew.
      const asked = query.get('name')?.slice('in:'.length).split(',') ?? [];
      const all = (known?.response as { traits: string[] } | undefined)?.traits ?? [];
      return { status: 200, body: { traits: all.filter((trait) => asked.includes(trait)) } };
    }
    if (method === 'GET' && path === `${ROOT}/inventories`) {
      return { status: 200, body: { resource_provider_generation: 0, inventories: {} } };
    }
    if (method === 'GET' && path === `${ROOT}/traits`) {
      return { status: 200, body: { resource_provider_generation: 1, traits: [] } };
    }
    return method === 'PUT' ? { status: 200, body: {} } : undefined;
  });
  await placement.ensureProvider(UUID, 'vm');
  await placement.setInventory(UUID, inventory?.request?.['inventories'] as Record<string, Inventory>);
  const asked =
    new URL(known?.path ?? '', 'http://x').searchParams.get('name')?.slice('in:'.length).split(',') ?? [];
  await placement.setTraits(UUID, asked);

  const sent = (method: string) =>
    cloud.seen.filter((request) => request.method === method && request.path !== '/v3/auth/tokens');
  expect(sent('POST').map(({ body }) => body)).toEqual([create?.request]);
  const [sentInventory, sentTraits] = sent('PUT');
  expect(sentInventory).toMatchObject({ path: `${ROOT}/inventories`, body: inventory?.request });
  expect(sentInventory?.headers['openstack-api-version']).toBe('placement 1.26');
  const names = (request: unknown) => [...(request as { traits: string[] }).traits].sort();
  expect(names(sentTraits?.body)).toEqual(names(traits?.request));
});

test('reads again and repeats a write that lost a race', async () => {
  const retry = {
    status: 500,
    body: { errors: [{ detail: 'Another thread concurrently updated the data' }] },
  };
  await start(provider([conflict, conflict, retry]));
  await expect(placement.setInventory(UUID, { VCPU })).resolves.toBe(true);
  await expect(placement.inventory(UUID)).resolves.toEqual({ VCPU });
  const generations = cloud.seen
    .filter(({ method }) => method === 'PUT')
    .map(({ body }) => (body as { resource_provider_generation: number }).resource_provider_generation);
  expect(generations).toEqual([0, 1, 2, 3]);
});

test('gives up when it always loses, and at once when something else is wrong', async () => {
  await start(provider(Array.from({ length: 20 }, () => conflict)));
  const failure: unknown = await placement.setTraits(UUID, ['COMPUTE_NODE']).catch((error: unknown) => error);
  expect(isHttpError(failure, 409)).toBe(true);
  expect(cloud.calls.filter((call) => call.startsWith('PUT'))).toHaveLength(4);
  await cloud.stop();
  session.close();
  await start(provider([{ status: 500 }]));
  await expect(placement.setTraits(UUID, ['COMPUTE_NODE'])).rejects.toMatchObject({ status: 500 });
});

test('an inventory that is in use does not shrink, however often one asks', async () => {
  const inUse = { status: 409, body: { errors: [{ detail: 'in use', code: 'placement.inventory.inuse' }] } };
  await start(provider([inUse]));
  await expect(placement.setInventory(UUID, { VCPU })).rejects.toBeInstanceOf(InventoryInUse);
  expect(cloud.calls.filter((call) => call.startsWith('PUT'))).toHaveLength(1);
});

test('writes nothing that is there already, single-precision ratios included', async () => {
  await start(provider());
  await placement.setInventory(UUID, { VCPU: { ...VCPU, allocation_ratio: Math.fround(1.15) } });
  await expect(placement.setInventory(UUID, { VCPU: { ...VCPU, allocation_ratio: 1.15 } })).resolves.toBe(
    false,
  );
  await placement.setTraits(UUID, ['COMPUTE_NODE']);
  await expect(placement.setTraits(UUID, ['COMPUTE_NODE', 'COMPUTE_UNKNOWN'])).resolves.toBe(false);
});
