/** Is this host a healthy compute host to a real OpenStack? */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NovaApi, waitFor } from '../support/nova-api';

const run = promisify(execFile);
const servicesSchema = z.object({
  services: z.array(
    z.looseObject({
      binary: z.string(),
      host: z.string(),
      state: z.string(),
      status: z.string(),
      updated_at: z.string().nullable(),
    }),
  ),
});
const hypervisorSchema = z.looseObject({
  id: z.string(),
  hypervisor_hostname: z.string(),
  hypervisor_type: z.string(),
  hypervisor_version: z.number(),
  host_ip: z.string(),
  state: z.string(),
  status: z.string(),
  uptime: z.string().nullable(),
});

describe('a compute host', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;

  beforeAll(async () => {
    nova = await NovaApi.login();
    compute = await ComputeProcess.start();
  });
  afterAll(async () => {
    await compute.stop();
  });

  async function service() {
    const { services } = servicesSchema.parse(await nova.get('compute', '/os-services?binary=nova-compute'));
    return services.find((found) => found.host === 'prebake');
  }

  async function hypervisor() {
    const list = z
      .object({
        hypervisors: z.array(z.looseObject({ id: z.string(), service: z.object({ host: z.string() }) })),
      })
      .parse(await nova.get('compute', '/os-hypervisors/detail'));
    const own = list.hypervisors.find((found) => found.service.host === 'prebake');
    return z
      .object({ hypervisor: hypervisorSchema })
      .parse(await nova.get('compute', `/os-hypervisors/${own?.id ?? 'missing'}`)).hypervisor;
  }

  it('is up and stays up by its heartbeats', async () => {
    const first = await service();
    expect(first).toMatchObject({ state: 'up', status: 'enabled' });
    await waitFor(
      async () => ((await service())?.updated_at !== first?.updated_at ? true : null),
      30_000,
      () => 'no heartbeat',
    );
  });

  // matrix: operation.get-host-uptime, operation.get-host-ip
  it('is a hypervisor with an uptime, and has an inventory in Placement', async () => {
    const shown = await hypervisor();
    expect(shown).toMatchObject({
      hypervisor_type: 'QEMU',
      host_ip: '127.0.0.1',
      state: 'up',
      status: 'enabled',
    });
    expect(shown.hypervisor_version).toBeGreaterThan(7_000_000);
    expect(shown.uptime).toMatch(/load average/);
    const { inventories } = z
      .object({ inventories: z.record(z.string(), z.looseObject({ total: z.number() })) })
      .parse(await nova.get('placement', `/resource_providers/${shown.id}/inventories`));
    expect(Object.keys(inventories).sort()).toEqual(['DISK_GB', 'MEMORY_MB', 'VCPU']);
    expect(inventories.VCPU?.total).toBeGreaterThan(0);
  });

  it('carries COMPUTE_STATUS_DISABLED while it is disabled', async () => {
    const { id } = await hypervisor();
    const services = servicesSchema.parse(await nova.get('compute', '/os-services?binary=nova-compute'));
    const own = services.services.find((found) => found.host === 'prebake');
    const traits = async () => {
      const { data } = await nova.http.get<unknown>(
        `${nova.url('placement')}/resource_providers/${id}/traits`,
        {
          headers: { 'OpenStack-API-Version': 'placement 1.6' },
        },
      );
      return z.object({ traits: z.array(z.string()) }).parse(data).traits;
    };
    const set = (status: string) =>
      nova.http.put(`${nova.url('compute')}/os-services/${String(own?.id)}`, { status });
    expect(await traits()).toContain('COMPUTE_NODE');
    try {
      await set('disabled');
      expect(await traits()).toContain('COMPUTE_STATUS_DISABLED');
    } finally {
      await set('enabled');
    }
    expect(await traits()).not.toContain('COMPUTE_STATUS_DISABLED');
  });

  it('leaves nova-status upgrade check clean, with a server of its own', async () => {
    const id = await nova.create({
      name: 'checked',
      image: await nova.imageId('tiny'),
      flavor: await nova.flavorId('m1.micro'),
      networks: 'none',
    });
    try {
      await nova.waitForStatus(id, 'ACTIVE');
      const config = ['--config-file', join(CLOUD, 'etc', 'nova.conf')];
      const { stdout } = await run('/usr/bin/python3', [
        '/usr/bin/nova-status',
        ...config,
        'upgrade',
        'check',
      ]);
      expect(stdout).toMatch(/Success/);
      expect(stdout).not.toMatch(/Failure|Warning/);
    } finally {
      await nova.delete(id);
      await nova.waitForGone(id);
    }
  });

  it('names everything it depends on in /readyz, and has metrics', async () => {
    const ready = await compute.get('/readyz');
    expect(ready.status).toBe(200);
    expect(ready.data).toMatchObject({
      ready: true,
      checks: {
        amqp: { state: 'up' },
        conductor: { state: 'up' },
        libvirt: { state: 'up' },
        placement: { state: 'up' },
      },
    });
    expect(String((await compute.get('/metrics')).data)).toMatch(/^prebake_boots_in_progress 0$/m);
  });

  it('comes back with its existing records', async () => {
    const before = await hypervisor();
    await compute.stop();
    compute = await ComputeProcess.start();
    const after = await hypervisor();
    expect(after.id).toBe(before.id);
    expect(after.state).toBe('up');
  });
});
