/** What the service does by itself: it follows its hypervisor, and ends what should not run. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { Service } from '../../lib/objects';
import { CloudRpc } from '../support/cloud-rpc';
import { ComputeProcess } from '../support/compute-process';
import { NOVA_CONF, NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run, traces } from '../support/servers';

const OPTIONS = `[DEFAULT]
running_deleted_instance_poll_interval = 5
sync_power_state_interval = 5
service_down_time = 5
`;
/** Service version of a release that has a second topic. */
const GAZPACHO = 72;
const servicesSchema = z.object({
  services: z.array(
    z.looseObject({
      id: z.string(),
      host: z.string(),
      status: z.string(),
      disabled_reason: z.string().nullable(),
    }),
  ),
});

describe('housekeeping', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let directory: string;
  let configFiles: string[];

  beforeAll(async () => {
    nova = await NovaApi.login();
    directory = await mkdtemp(join(tmpdir(), 'prebake-housekeeping-'));
    configFiles = [NOVA_CONF, join(directory, 'more.conf')];
    await writeFile(join(directory, 'more.conf'), OPTIONS);
    compute = await ComputeProcess.start({ configFiles });
    await run(ALL_IN_ONE, ['discover-hosts']);
  });
  afterAll(async () => {
    await compute.stop();
    await rm(directory, { recursive: true });
  });

  async function service() {
    const { services } = servicesSchema.parse(await nova.get('compute', '/os-services?binary=nova-compute'));
    const found = services.find(({ host }) => host === 'prebake');
    if (found === undefined) throw new Error('there is no compute service prebake');
    return found;
  }

  it('takes the host out of scheduling while libvirtd is away', async () => {
    await run(ALL_IN_ONE, ['stop', 'libvirtd']);
    try {
      await waitFor(
        async () => ((await service()).disabled_reason?.startsWith('AUTO: ') === true ? true : null),
        30_000,
        () => 'the service is not disabled',
      );
      expect((await service()).status).toBe('disabled');
    } finally {
      await run(ALL_IN_ONE, ['start', 'libvirtd']);
    }
    await waitFor(
      async () => ((await service()).status === 'enabled' ? true : null),
      60_000,
      () => 'the service is not enabled again',
    );
  });

  it('follows the release of a cloud that is upgraded around it', async () => {
    const rpc = await CloudRpc.connect();
    const records = (binary: string) => rpc.list(Service, ['ServiceList', 'get_by_binary'], [binary]);
    const setRelease = async (version: number) => {
      for (const record of await records('nova-conductor')) {
        record.set('version', version);
        await rpc.save(record);
      }
      await waitFor(
        async () => {
          const own = (await records('nova-compute')).find(({ host }) => host === 'prebake');
          return own?.version === version ? true : null;
        },
        60_000,
        () => `the service does not say that it is of version ${version}`,
      );
    };
    const [before] = await records('nova-conductor');
    try {
      await setRelease(GAZPACHO);
      expect(await rpc.askCompute('compute-alt', '6.5', 'get_host_uptime', {})).toMatch(/load average/);
    } finally {
      await setRelease(before?.version ?? 0);
      await rpc.close();
    }
  });

  it('switches off a stopped server that runs, and ends one that was deleted', async () => {
    const id = await nova.create({
      name: 'zombie',
      image: await nova.imageId('tiny'),
      flavor: await nova.flavorId('m1.micro'),
    });
    await nova.waitForStatus(id, 'ACTIVE');
    const virsh = async (...args: string[]) => (await run('virsh', ['-c', 'qemu:///system', ...args])).stdout;
    await nova.action(id, { 'os-stop': null });
    await nova.waitForStatus(id, 'SHUTOFF');
    await compute.stop();
    await virsh('start', id);
    compute = await ComputeProcess.start({ configFiles });
    await waitFor(
      async () => ((await virsh('domstate', id)).includes('shut off') ? true : null),
      30_000,
      () => 'the server still runs',
    );
    expect((await nova.waitForStatus(id, 'SHUTOFF'))['OS-EXT-STS:power_state']).toBe(4);

    // A server of a host that is down is deleted in the database alone.
    await compute.stop();
    const serviceUrl = `${nova.url('compute')}/os-services/${(await service()).id}`;
    await nova.http.put(serviceUrl, { forced_down: true });
    try {
      await nova.delete(id);
      await nova.waitForGone(id);
    } finally {
      await nova.http.put(serviceUrl, { forced_down: false });
    }
    expect(await traces(nova, { id })).toContain('domain');
    compute = await ComputeProcess.start({ configFiles });
    await waitFor(
      async () => ((await traces(nova, { id })).length === 0 ? true : null),
      60_000,
      () => 'the deleted server is still here',
    );
  });
});
