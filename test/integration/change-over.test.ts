/**
 * An operator's change of mind: Debian's nova-compute serves a host, prebake takes over with the same nova.conf, and
 * nova-compute takes it back. Servers of either are the other's to manage.
 */
import { z } from 'zod';
import { ComputeProcess } from '../support/compute-process';
import { NovaApi, type Server, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, bakeImage, run, traces, waitForPing } from '../support/servers';

const STOCK = 'nova-compute-in-place';
const servicesSchema = z.object({
  services: z.array(z.looseObject({ id: z.string(), host: z.string(), updated_at: z.string().nullable() })),
});
const consoleSchema = z.object({ output: z.string() });
const remoteSchema = z.object({ remote_console: z.object({ url: z.string() }) });
const imagesSchema = z.object({ image_id: z.string() });

describe('a host that changes over', () => {
  let nova: NovaApi;
  let image: string;
  let flavor: string;
  let compute: ComputeProcess | null = null;
  let ofStock: Server;
  const ofPrebake: Server[] = [];
  const made: string[] = [];

  beforeAll(async () => {
    nova = await NovaApi.login();
    [image, flavor] = await Promise.all([nova.imageId('tiny'), nova.flavorId('m1.small')]);
  });
  afterAll(async () => {
    await compute?.stop();
    await allInOne('stop');
    compute = await ComputeProcess.start();
    try {
      for (const id of made) {
        await nova.delete(id);
        await nova.waitForGone(id);
      }
    } finally {
      await compute.stop();
    }
  });

  async function allInOne(action: 'start' | 'stop'): Promise<void> {
    await run(ALL_IN_ONE, [action, STOCK], { timeout: 300_000 });
  }

  async function boot(name: string): Promise<Server> {
    const id = await nova.create({ name, image, flavor });
    made.push(id);
    const server = await nova.waitForStatus(id, 'ACTIVE');
    await waitForPing(nova, server);
    return server;
  }

  /** Waits for a sign of life that is younger than the question. */
  async function heard(): Promise<void> {
    const last = async () =>
      servicesSchema
        .parse(await nova.get('compute', '/os-services?binary=nova-compute&host=prebake'))
        .services.map(({ id, updated_at }) => `${id} ${updated_at ?? ''}`)
        .join();
    const before = await last();
    await waitFor(
      async () => ((await last()) === before ? null : true),
      90_000,
      () => 'the host gives no sign of life',
    );
  }

  /** The hypervisor that Nova knows for the host, and what Placement holds for its servers. */
  async function records(...servers: readonly Server[]): Promise<unknown> {
    const hypervisors = z.object({
      hypervisors: z.array(z.looseObject({ id: z.string(), hypervisor_hostname: z.string() })),
    });
    const allocations = z.object({ allocations: z.record(z.string(), z.object({ resources: z.unknown() })) });
    return {
      hypervisors: hypervisors
        .parse(await nova.get('compute', '/os-hypervisors'))
        .hypervisors.map(({ id, hypervisor_hostname }) => ({ id, hypervisor_hostname })),
      allocations: await Promise.all(
        servers.map(async ({ id }) =>
          Object.entries(
            allocations.parse(await nova.get('placement', `/allocations/${id}`)).allocations,
          ).map(([provider, { resources }]) => ({ provider, resources })),
        ),
      ),
    };
  }

  async function powerCycle(server: Server): Promise<void> {
    await nova.action(server.id, { 'os-stop': null });
    await nova.waitForStatus(server.id, 'SHUTOFF');
    await nova.action(server.id, { 'os-start': null });
    await nova.waitForStatus(server.id, 'ACTIVE');
    await nova.action(server.id, { reboot: { type: 'HARD' } });
    await nova.waitForStatus(server.id, 'ACTIVE');
    await waitForPing(nova, server);
  }

  test('nova-compute serves it', async () => {
    await allInOne('start');
    await heard();
    await run(ALL_IN_ONE, ['discover-hosts']);
    ofStock = await boot('of-stock');
  });

  test('prebake takes over, with the servers and their records as they were', async () => {
    const before = await records(ofStock);
    await allInOne('stop');
    await waitForPing(nova, ofStock);
    compute = await ComputeProcess.start();
    await heard();
    expect(await records(ofStock)).toEqual(before);
    expect(await nova.show(ofStock.id)).toMatchObject({ status: 'ACTIVE', 'OS-EXT-STS:task_state': null });
  });

  test("nova-compute's server does what it did: console, snapshot, stop, start, reboot", async () => {
    const said = await nova.action(ofStock.id, { 'os-getConsoleOutput': { length: 50 } });
    expect(consoleSchema.parse(said).output).not.toBe('');
    const { data } = await nova.http.post<unknown>(
      `${nova.url('compute')}/servers/${ofStock.id}/remote-consoles`,
      { remote_console: { protocol: 'vnc', type: 'novnc' } },
    );
    expect(remoteSchema.parse(data).remote_console.url).toMatch(/token/);
    const snapshot = await nova.action(ofStock.id, { createImage: { name: 'of-stock-snapshot' } });
    const { image_id: made } = imagesSchema.parse(snapshot);
    await nova.waitForStatus(ofStock.id, 'ACTIVE');
    expect(await nova.get('image', `/v2/images/${made}`)).toMatchObject({ status: 'active' });
    await nova.deleteImage(made);
    await powerCycle(ofStock);
  });

  test('prebake makes servers of its own, cold and from a µVM', async () => {
    ofPrebake.push(await boot('of-prebake-cold'));
    await bakeImage(image);
    const clone = await boot('of-prebake-clone');
    ofPrebake.push(clone);
    expect((await compute?.waitForReady(clone.id))?.how).toBe('uvm');
  });

  test('nova-compute takes it back, with all servers and their records as they were', async () => {
    const all = [ofStock, ...ofPrebake];
    const before = await records(...all);
    await compute?.stop();
    compute = null;
    await allInOne('start');
    await heard();
    expect(await records(...all)).toEqual(before);
    for (const server of all) {
      await waitForPing(nova, server);
      expect(await nova.show(server.id)).toMatchObject({ status: 'ACTIVE', 'OS-EXT-STS:task_state': null });
    }
  });

  test("prebake's servers are stopped, started, rebooted and deleted by nova-compute", async () => {
    for (const server of ofPrebake.splice(0)) {
      await powerCycle(server);
      await nova.delete(server.id);
      await nova.waitForGone(server.id);
      expect(await traces(nova, server)).toEqual([]);
    }
  });
});
