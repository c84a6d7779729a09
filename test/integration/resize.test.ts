/** Servers that get another flavor, one that was booted cold and one from a µVM, on a real OpenStack with a tiny image. */
import { join } from 'node:path';
import { z } from 'zod';
import { BothWays } from '../support/both-ways';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NovaApi } from '../support/nova-api';
import { run, traces, virsh, waitForPing } from '../support/servers';

const allocationsSchema = z.object({
  allocations: z.record(z.string(), z.object({ resources: z.record(z.string(), z.number()) })),
});
const migrationsSchema = z.object({
  migrations: z.array(z.looseObject({ uuid: z.string(), status: z.string(), migration_type: z.string() })),
});

// matrix: operation.resize
describe('resized servers', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let servers: BothWays;

  beforeAll(async () => {
    nova = await NovaApi.login();
    compute = await ComputeProcess.start();
    servers = await BothWays.boot(nova, compute, { cold: 'm1.nano', uvm: 'm1.mini' });
  });
  afterAll(async () => {
    await servers.remove();
    await compute.stop();
  });

  async function allocation(consumer: string): Promise<Readonly<Record<string, number>> | null> {
    const { allocations } = allocationsSchema.parse(await nova.get('placement', `/allocations/${consumer}`));
    return Object.values(allocations)[0]?.resources ?? null;
  }

  async function lastMigration(id: string) {
    const { migrations } = migrationsSchema.parse(
      await nova.get('compute', `/os-migrations?instance_uuid=${id}`),
    );
    const [last] = migrations;
    if (last === undefined) throw new Error(`server ${id} has no migration`);
    return last;
  }

  async function hardware(id: string): Promise<{ memoryMb: number; vcpus: number; rootGb: number }> {
    const info = await virsh('dominfo', id);
    const { stdout } = await run('qemu-img', [
      'info',
      '-U',
      '--output=json',
      join(CLOUD, 'lib', 'prebake', 'instances', id, 'disk'),
    ]);
    const disk = z.object({ 'virtual-size': z.number() }).parse(JSON.parse(stdout));
    return {
      memoryMb: Number(/Max memory: +(\d+)/.exec(info)?.[1]) / 1024,
      vcpus: Number(/CPU\(s\): +(\d+)/.exec(info)?.[1]),
      rootGb: disk['virtual-size'] / 1024 ** 3,
    };
  }

  it.each([
    ['cold', 'm1.micro', { memoryMb: 128, vcpus: 1, rootGb: 1 }],
    ['uvm', 'm1.small', { memoryMb: 2048, vcpus: 2, rootGb: 10 }],
  ] as const)('go back to what they were, then keep what they get (%s)', async (how, flavor, wanted) => {
    const { id } = servers.server(how);
    const before = { hardware: await hardware(id), allocation: await allocation(id) };
    const flavorRef = await nova.flavorId(flavor);

    await nova.action(id, { resize: { flavorRef } });
    await waitForPing(nova, await nova.waitForStatus(id, 'VERIFY_RESIZE'));
    expect(await hardware(id)).toEqual(wanted);
    const first = await lastMigration(id);
    expect(first).toMatchObject({ status: 'finished', migration_type: 'resize' });
    expect(await allocation(first.uuid)).toEqual(before.allocation);

    await nova.action(id, { revertResize: null });
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));
    expect(await hardware(id)).toEqual(before.hardware);
    expect(await lastMigration(id)).toMatchObject({ uuid: first.uuid, status: 'reverted' });
    expect(await allocation(first.uuid)).toBeNull();
    expect(await allocation(id)).toEqual(before.allocation);

    await nova.action(id, { resize: { flavorRef } });
    await nova.waitForStatus(id, 'VERIFY_RESIZE');
    const second = await lastMigration(id);
    await nova.action(id, { confirmResize: null });
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));
    expect(await hardware(id)).toEqual(wanted);
    expect(await lastMigration(id)).toMatchObject({ uuid: second.uuid, status: 'confirmed' });
    expect(await allocation(second.uuid)).toBeNull();
    expect(await allocation(id)).toMatchObject({ MEMORY_MB: wanted.memoryMb, VCPU: wanted.vcpus });
    const { stdout } = await run('ls', [join(CLOUD, 'lib', 'prebake', 'instances')]);
    expect(stdout).not.toContain('_resize');
  });

  it('stay stopped when they were, and do not get a smaller disk', async () => {
    const { id } = servers.server('uvm');
    const roomy = await nova.makeFlavor({ name: `roomy-${id}`, memoryMb: 2304, vcpus: 2, rootGb: 12 });
    const before = await allocation(id);
    await nova.action(id, { 'os-stop': null });
    await nova.waitForStatus(id, 'SHUTOFF');
    await nova.action(id, { resize: { flavorRef: await nova.flavorId('m1.mini') } });
    await nova.waitForStatus(id, 'SHUTOFF');
    expect(await lastMigration(id)).toMatchObject({ status: 'error' });
    expect(await allocation(id)).toEqual(before);

    // Of more memory alone: no flavor may have more processors than the host, and this one has as many as small ones.
    await nova.action(id, { resize: { flavorRef: roomy } });
    expect((await nova.waitForStatus(id, 'VERIFY_RESIZE'))['OS-EXT-STS:power_state']).toBe(4);
    await nova.action(id, { revertResize: null });
    expect((await nova.waitForStatus(id, 'SHUTOFF'))['OS-EXT-STS:power_state']).toBe(4);
    expect(await allocation(id)).toEqual(before);
    await nova.action(id, { 'os-start': null });
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));
    await nova.deleteFlavor(roomy);
  });

  it('are not moved to the host where they are', async () => {
    const { id } = servers.server('cold');
    const before = await allocation(id);
    // Whether the API, the scheduler or this host says no is Nova's affair.
    await nova.action(id, { migrate: null }).catch(() => undefined);
    await nova.waitForStatus(id, 'ACTIVE');
    await waitForPing(nova, servers.server('cold'));
    expect(await allocation(id)).toEqual(before);
  });

  it('are deleted with all their disks before they are confirmed', async () => {
    const { id } = servers.server('cold');
    await nova.action(id, { resize: { flavorRef: await nova.flavorId('m1.mini') } });
    await nova.waitForStatus(id, 'VERIFY_RESIZE');
    const { uuid } = await lastMigration(id);
    await nova.delete(id);
    await nova.waitForGone(id);
    expect(await traces(nova, { id })).toEqual([]);
    expect(await allocation(uuid)).toBeNull();
    servers.forget('cold');
  });
});
