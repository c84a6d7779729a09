/**
 * The service is killed in the middle of each operation on a server that came from a µVM. After its restart the server is in
 * a state that its user can go on from (nova/compute/manager.py, _init_instance), and the operation can be asked for again.
 */
import { z } from 'zod';
import { Instance } from '../../lib/objects';
import { CloudRpc } from '../support/cloud-rpc';
import { ComputeProcess } from '../support/compute-process';
import { ConductorWatch } from '../support/conductor-watch';
import { NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, bakeImage, run, traces, waitForPing } from '../support/servers';

const BEGUN_MS = 90_000;

/** What is asked for: an action of the servers API, or something else that is done to the server. */
type Ask = Readonly<Record<string, unknown>> | ((id: string) => Promise<unknown>);

/** One operation, and where it is cut short: at an action event, or when a task state is saved. */
interface Interruption {
  readonly ask: Ask;
  readonly at: string;
  /** Status after the restart, by itself. */
  readonly after: readonly string[];
  /** Status once it has been asked for again; missing when the restart has seen it through. */
  readonly again?: string;
  /** Begun with a clone that has not been off since it was restored; otherwise with what the case before has left. */
  readonly restored?: true;
}

describe('an operation that is cut short', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let watch: ConductorWatch;
  let image: string;
  let larger: string;
  let rpc: CloudRpc;
  let id: string;

  beforeAll(async () => {
    nova = await NovaApi.login();
    watch = await ConductorWatch.start();
    rpc = await CloudRpc.connect();
    image = await nova.imageId('tiny');
    larger = await nova.flavorId('m1.small');
    compute = await ComputeProcess.start();
    await run(ALL_IN_ONE, ['discover-hosts']);
    await bakeImage(image);
    id = await nova.create({ name: 'interrupted', image, flavor: await nova.flavorId('m1.mini') });
    await nova.waitForStatus(id, 'ACTIVE');
    expect(await compute.waitForReady(id)).toMatchObject({ how: 'uvm' });
  });
  afterAll(async () => {
    await nova.delete(id);
    await nova.waitForGone(id);
    for (const left of await imagesOfServer()) await nova.deleteImage(left);
    const left = await traces(nova, { id });
    await watch.stop();
    await rpc.close();
    await compute.stop();
    expect(left).toEqual([]);
  });

  async function imagesOfServer(): Promise<string[]> {
    const { images } = z
      .object({ images: z.array(z.looseObject({ id: z.string() })) })
      .parse(await nova.get('image', `/v2/images?instance_uuid=${id}`));
    return images.map((found) => found.id);
  }

  function asked(ask: Ask): Promise<unknown> {
    return typeof ask === 'function' ? ask(id) : nova.action(id, ask);
  }

  async function interrupt({ ask, at }: Pick<Interruption, 'ask' | 'at'>): Promise<void> {
    const killed = watch.when(id, at, BEGUN_MS, () => compute.kill());
    // Some are calls, whose answer died with the service.
    asked(ask).catch(() => undefined);
    await killed;
    compute = await ComputeProcess.start();
  }

  /** Settles in one of these states. */
  async function settled(statuses: readonly string[]): Promise<string> {
    let last = '';
    return waitFor(
      async () => {
        const server = await nova.show(id);
        last = `${server?.status ?? 'gone'}/${server?.['OS-EXT-STS:task_state'] ?? 'no task'}`;
        if (server === null || server['OS-EXT-STS:task_state'] !== null) return null;
        return statuses.includes(server.status) ? server.status : null;
      },
      120_000,
      () => `the server is ${last}, not ${statuses.join(' or ')}`,
    );
  }

  /** The server is a clone again. */
  async function restore(): Promise<void> {
    await nova.action(id, { rebuild: { imageRef: image } });
    await nova.waitForStatus(id, 'ACTIVE');
    expect(await compute.waitForReady(id)).toMatchObject({ how: 'uvm' });
  }

  const rebuild = { rebuild: { imageRef: '' } };
  const cases: readonly (readonly [string, Interruption])[] = [
    [
      'pause',
      { ask: { pause: null }, at: 'compute_pause_instance', after: ['ACTIVE', 'PAUSED'], again: 'PAUSED' },
    ],
    ['unpause', { ask: { unpause: null }, at: 'compute_unpause_instance', after: ['ACTIVE'] }],
    ['suspend', { ask: { suspend: null }, at: 'compute_suspend_instance', after: ['SUSPENDED'] }],
    ['resume', { ask: { resume: null }, at: 'compute_resume_instance', after: ['ACTIVE'] }],
    [
      'snapshot',
      {
        ask: { createImage: { name: 'cut-short' } },
        at: 'image_pending_upload',
        after: ['ACTIVE'],
        again: 'ACTIVE',
      },
    ],
    [
      'soft reboot',
      { ask: { reboot: { type: 'SOFT' } }, at: 'reboot_started', after: ['ACTIVE'], again: 'ACTIVE' },
    ],
    ['stop', { ask: { 'os-stop': null }, at: 'compute_stop_instance', after: ['SHUTOFF'] }],
    ['start', { ask: { 'os-start': null }, at: 'compute_start_instance', after: ['ACTIVE'] }],
    ['rebuild', { ask: rebuild, at: 'rebuild_spawning', after: ['ERROR'], again: 'ACTIVE' }],
    [
      'hard reboot',
      { ask: { reboot: { type: 'HARD' } }, at: 'reboot_started_hard', after: ['ACTIVE'], again: 'ACTIVE' },
    ],
    [
      'rescue',
      {
        restored: true,
        ask: { rescue: {} },
        at: 'compute_rescue_instance',
        after: ['ERROR'],
        again: 'RESCUE',
      },
    ],
    ['unrescue', { ask: { unrescue: null }, at: 'compute_unrescue_instance', after: ['ACTIVE'] }],
    [
      'resize, at its beginning',
      {
        restored: true,
        ask: (server) => resize(server),
        at: 'resize_migrating',
        after: ['ACTIVE'],
        again: 'VERIFY_RESIZE',
      },
    ],
    ['revert', { ask: { revertResize: null }, at: 'compute_revert_resize', after: ['ACTIVE'] }],
    [
      'resize, at its end',
      { ask: (server) => resize(server), at: 'resize_finish', after: ['ACTIVE'], again: 'VERIFY_RESIZE' },
    ],
    ['confirmation', { ask: { confirmResize: null }, at: 'compute_confirm_resize', after: ['ACTIVE'] }],
    [
      'shelving',
      {
        restored: true,
        ask: { shelve: null },
        at: 'shelving_image_pending_upload',
        after: ['SHUTOFF'],
        again: 'SHELVED_OFFLOADED',
      },
    ],
    [
      'unshelving',
      { ask: { unshelve: null }, at: 'spawning', after: ['SHELVED_OFFLOADED'], again: 'ACTIVE' },
    ],
  ];

  function resize(server: string): Promise<unknown> {
    return nova.action(server, { resize: { flavorRef: larger } });
  }

  it.each(cases)('%s', async (_name, { restored, ask, at, after, again }) => {
    if (restored === true) await restore();
    const what = ask === rebuild ? { rebuild: { imageRef: image } } : ask;
    await interrupt({ ask: what, at });
    const status = await settled(after);
    if (again !== undefined && !(after.length > 1 && status === again)) {
      await asked(what);
      await nova.waitForStatus(id, again, undefined, { despiteError: true });
    }
  });

  it('leaves a server that still answers', async () => {
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));
    expect((await traces(nova, { id })).sort()).toEqual(['allocation', 'domain', 'files', 'port']);
  });

  it('attaching and detaching a NIC', async () => {
    await restore();
    const network = await nova.networkId('private');
    const url = `${nova.url('compute')}/servers/${id}/os-interface`;
    await interrupt({
      ask: () => nova.http.post(url, { interfaceAttachment: { net_id: network } }),
      at: 'compute_attach_interface',
    });
    await settled(['ACTIVE']);
    const { data } = await nova.http.post<unknown>(url, { interfaceAttachment: { net_id: network } });
    const port = z.object({ interfaceAttachment: z.looseObject({ port_id: z.string() }) }).parse(data)
      .interfaceAttachment.port_id;
    await interrupt({ ask: () => nova.http.delete(`${url}/${port}`), at: 'compute_detach_interface' });
    await settled(['ACTIVE']);
  });

  it('a soft delete and its end', async () => {
    await interrupt({
      ask: async () => {
        // As nova-api does where `reclaim_instance_interval` is set.
        const instance = await rpc.find(Instance, ['Instance', 'get_by_uuid'], [id]);
        instance.set('task_state', 'soft-deleting');
        await rpc.save(instance);
        await rpc.askCompute('compute', '6.0', 'soft_delete_instance', { instance });
      },
      at: 'compute_soft_delete_instance',
    });
    await settled(['SOFT_DELETED']);
    await interrupt({ ask: { restore: null }, at: 'compute_restore_instance' });
    await settled(['ACTIVE']);
  });

  it('a delete', async () => {
    await interrupt({ ask: (server) => nova.delete(server), at: 'compute_terminate_instance' });
    await nova.waitForGone(id);
    expect(await traces(nova, { id })).toEqual([]);
  });
});
