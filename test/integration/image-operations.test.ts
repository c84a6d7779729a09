/** What is done to a server with images: snapshots, backups, rebuilds, rescues, resizes. On a real OpenStack, tiny image. */
import { z } from 'zod';
import { ComputeProcess } from '../support/compute-process';
import { NovaApi, type Server, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run, traces, waitForPing } from '../support/servers';

const imageSchema = z.looseObject({
  id: z.string(),
  status: z.string(),
  disk_format: z.string().nullable(),
  size: z.number().nullable(),
});

describe('a server and images', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let image: string;
  let server: Server;
  const images: string[] = [];

  beforeAll(async () => {
    nova = await NovaApi.login();
    image = await nova.imageId('tiny');
    compute = await ComputeProcess.start();
    await run(ALL_IN_ONE, ['discover-hosts']);
    const flavor = await nova.flavorId('m1.micro');
    const id = await nova.create({ name: 'images', image, flavor });
    server = await nova.waitForStatus(id, 'ACTIVE');
  });
  afterAll(async () => {
    await nova.delete(server.id);
    await nova.waitForGone(server.id);
    for (const id of images) await nova.deleteImage(id);
    const left = await traces(nova, server);
    await compute.stop();
    expect(left).toEqual([]);
  });

  async function imageMade(action: Readonly<Record<string, unknown>>): Promise<z.infer<typeof imageSchema>> {
    const { image_id: id } = z.object({ image_id: z.string() }).parse(await nova.action(server.id, action));
    images.push(id);
    const made = await waitFor(
      async () => {
        const found = imageSchema.parse(await nova.get('image', `/v2/images/${id}`));
        return found.status === 'active' ? found : null;
      },
      120_000,
      () => `image ${id} did not become active`,
    );
    return made;
  }

  // matrix: operation.snapshot
  it('gives an image while it runs, whole and bootable', async () => {
    const made = await imageMade({ createImage: { name: 'live' } });
    await nova.waitForStatus(server.id, 'ACTIVE');
    expect(made).toMatchObject({ disk_format: 'qcow2', image_state: 'available', base_image_ref: image });
    expect(made.size).toBeGreaterThan(0);
    const again = await nova.create({
      name: 'from-snapshot',
      image: made.id,
      flavor: await nova.flavorId('m1.micro'),
    });
    try {
      await waitForPing(nova, await nova.waitForStatus(again, 'ACTIVE'));
    } finally {
      await nova.delete(again);
      await nova.waitForGone(again);
    }
  });

  // matrix: operation.rebuild
  it('is rebuilt under its own addresses, and stays stopped when it was', async () => {
    await nova.action(server.id, { rebuild: { imageRef: image } });
    const rebuilt = await nova.waitForStatus(server.id, 'ACTIVE');
    expect(rebuilt.addresses).toEqual(server.addresses);
    await waitForPing(nova, rebuilt);
    await nova.action(server.id, { 'os-stop': null });
    await nova.waitForStatus(server.id, 'SHUTOFF');
    await nova.action(server.id, { rebuild: { imageRef: image } });
    await nova.waitForStatus(server.id, 'SHUTOFF');
    await nova.action(server.id, { 'os-start': null });
    await waitForPing(nova, await nova.waitForStatus(server.id, 'ACTIVE'));
  });

  // matrix: operation.snapshot
  it('gives one while it is stopped, and keeps as many backups as asked', async () => {
    await nova.action(server.id, { 'os-stop': null });
    await nova.waitForStatus(server.id, 'SHUTOFF');
    const backup = { backup_type: 'daily', rotation: 1 };
    const first = await imageMade({ createBackup: { name: 'first', ...backup } });
    await nova.waitForStatus(server.id, 'SHUTOFF');
    const second = await imageMade({ createBackup: { name: 'second', ...backup } });
    await nova.waitForStatus(server.id, 'SHUTOFF');
    expect(second.disk_format).toBe('qcow2');
    const kept = z
      .object({ images: z.array(imageSchema) })
      .parse(await nova.get('image', `/v2/images?image_type=backup&instance_uuid=${server.id}`));
    expect(kept.images.map(({ id }) => id)).toEqual([second.id]);
    images.splice(images.indexOf(first.id), 1);
    await nova.action(server.id, { 'os-start': null });
    await waitForPing(nova, await nova.waitForStatus(server.id, 'ACTIVE'));
  });
});
