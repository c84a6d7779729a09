/** Servers put on the shelf and taken from it, one that was booted cold and one from a µVM, on a real OpenStack. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BothWays } from '../support/both-ways';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NOVA_CONF, NovaApi, waitFor } from '../support/nova-api';
import { run, traces, waitForPing } from '../support/servers';

const imagesSchema = z.object({ images: z.array(z.looseObject({ id: z.string(), status: z.string() })) });

describe('shelved servers', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let servers: BothWays;

  beforeAll(async () => {
    nova = await NovaApi.login();
    compute = await ComputeProcess.start();
    servers = await BothWays.boot(nova, compute, { cold: 'm1.micro', uvm: 'm1.mini' });
  });
  afterAll(async () => {
    await servers.remove();
    await compute.stop();
  });

  async function imagesOf(id: string): Promise<string[]> {
    const { images } = imagesSchema.parse(await nova.get('image', `/v2/images?instance_uuid=${id}`));
    return images.map(({ status }) => status);
  }

  it.each(['cold', 'uvm'] as const)('leave the host at once and come back as they were (%s)', async (how) => {
    const { id, addresses } = servers.server(how);
    await nova.action(id, { shelve: null });
    const shelved = await nova.waitForOffloaded(id);
    expect(await traces(nova, shelved)).toEqual(['port']);
    expect(await imagesOf(id)).toEqual(['active']);

    await nova.action(id, { unshelve: null });
    const back = await nova.waitForStatus(id, 'ACTIVE');
    expect(back.addresses).toEqual(addresses);
    await waitForPing(nova, back);
    expect(await imagesOf(id)).toEqual([]);
    expect(await traces(nova, back)).toEqual(['domain', 'files', 'port', 'allocation']);
    // The next start needs nothing of the image that is gone.
    await nova.action(id, { reboot: { type: 'HARD' } });
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));
  });

  it('stay for a while where the operator wants it so', async () => {
    const { id } = servers.server('cold');
    const later = join(CLOUD, 'etc', 'shelved-later.conf');
    await writeFile(later, '[DEFAULT]\nshelved_offload_time = 1\nshelved_poll_interval = 5\n');
    await compute.stop();
    compute = await ComputeProcess.start({ configFiles: [NOVA_CONF, later] });
    await nova.action(id, { shelve: null });
    await nova.waitForOffloaded(id);
    const stay = join(CLOUD, 'etc', 'shelved-stay.conf');
    await writeFile(stay, '[DEFAULT]\nshelved_offload_time = -1\n');
    await compute.stop();
    compute = await ComputeProcess.start({ configFiles: [NOVA_CONF, stay] });
    await nova.action(id, { unshelve: null });
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));

    await nova.action(id, { shelve: null });
    const shelved = await nova.waitForStatus(id, 'SHELVED');
    expect(await traces(nova, shelved)).toEqual(['domain', 'files', 'port', 'allocation']);
    await nova.action(id, { unshelve: null });
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));
    expect(await imagesOf(id)).toEqual([]);
    await nova.action(id, { shelve: null });
    await nova.waitForStatus(id, 'SHELVED');
    await nova.action(id, { shelveOffload: null });
    await nova.waitForOffloaded(id);
    expect(await traces(nova, shelved)).toEqual(['port']);
  });

  // matrix: operation.cache-images
  it('find images that were cached for them', async () => {
    const { aggregate } = z
      .object({ aggregate: z.object({ id: z.number() }) })
      .parse(
        (await nova.http.post(`${nova.url('compute')}/os-aggregates`, { aggregate: { name: 'cached' } }))
          .data,
      );
    const url = `${nova.url('compute')}/os-aggregates/${aggregate.id}`;
    const { stdout: tiny } = await run('cat', [join(CLOUD, 'images', 'tiny.qcow2')], {
      encoding: 'buffer',
      maxBuffer: 64 << 20,
    });
    const wanted = await nova.upload('wanted-soon', 'qcow2', tiny, { prebake: 'never' });
    try {
      await nova.http.post(`${url}/action`, { add_host: { host: 'prebake' } });
      await nova.http.post(`${url}/images`, { cache: [{ id: wanted }] });
      const base = join(CLOUD, 'lib', 'prebake', 'instances', '_base');
      await waitFor(
        () =>
          Promise.resolve(existsSync(join(base, createHash('sha1').update(wanted).digest('hex'))) || null),
        60_000,
        () => `the image is not in ${base}`,
      );
    } finally {
      await nova.http.post(`${url}/action`, { remove_host: { host: 'prebake' } });
      await nova.http.delete(url);
      await nova.deleteImage(wanted);
    }
  });
});
