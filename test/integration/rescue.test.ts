/** Servers rescued and let go again, one that was booted cold and one from a µVM, on a real OpenStack with a tiny image. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BothWays } from '../support/both-ways';
import { ComputeProcess } from '../support/compute-process';
import { NovaApi, CLOUD } from '../support/nova-api';
import { filesOf, virsh, waitForPing } from '../support/servers';

describe('rescued servers', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let servers: BothWays;
  const images: string[] = [];

  beforeAll(async () => {
    nova = await NovaApi.login();
    compute = await ComputeProcess.start();
    servers = await BothWays.boot(nova, compute, { cold: 'm1.micro', uvm: 'm1.small' });
  });
  afterAll(async () => {
    await servers.remove();
    for (const id of images) await nova.deleteImage(id);
    await compute.stop();
  });

  /** Files of the server's disks by device, `vda disk.rescue`. */
  async function disks(id: string): Promise<string[]> {
    const lines = (await virsh('domblklist', id)).split('\n').slice(2);
    return lines
      .map((line) => line.trim().split(/\s+/))
      .filter(([device]) => device !== undefined && device !== '')
      .map(([device = '', path = '']) => `${device} ${path.split('/').at(-1) ?? ''}`);
  }

  // matrix: operation.rescue
  it.each(['cold', 'uvm'] as const)(
    'boot from their own image beside their disk, and go back (%s)',
    async (how) => {
      const { id } = servers.server(how);
      const before = { disks: await disks(id), files: await filesOf(id) };
      const answer = await nova.action(id, { rescue: { adminPass: 'for-the-rescue' } });
      expect(z.object({ adminPass: z.string() }).parse(answer).adminPass).toBe('for-the-rescue');
      const rescued = await nova.waitForStatus(id, 'RESCUE');
      expect(rescued['OS-EXT-STS:power_state']).toBe(1);
      expect(await disks(id)).toEqual(['vda disk.rescue', 'vdb disk', 'vdz disk.config.rescue']);
      await waitForPing(nova, rescued);
      await nova.action(id, { unrescue: null });
      await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE'));
      expect((await disks(id)).map((line) => line.split(' ')[0])).toEqual(
        before.disks.map((line) => line.split(' ')[0]),
      );
      const files = await filesOf(id);
      expect(files.filter((name) => !before.files.includes(name))).toEqual([]);
    },
  );

  it.each([
    ['usb', 'disk', 'sda'],
    ['ide', 'cdrom', 'hda'],
    ['scsi', 'disk', 'sda'],
    ['virtio', 'disk', 'vdb'],
  ])(
    'keep every disk in its place where the image asks for bus %s, device %s',
    async (bus, device, target) => {
      const { id } = servers.server('cold');
      const content = await readFile(join(CLOUD, 'images', 'tiny.qcow2'));
      const stable = await nova.upload(`rescue-${bus}`, 'qcow2', content, {
        hw_rescue_bus: bus,
        hw_rescue_device: device,
      });
      images.push(stable);
      await nova.action(id, { rescue: { rescue_image_ref: stable } });
      await nova.waitForStatus(id, 'RESCUE');
      expect((await disks(id)).sort()).toEqual(
        ['vda disk', 'vdz disk.config', `${target} disk.rescue`].sort(),
      );
      await nova.action(id, { unrescue: null });
      await nova.waitForStatus(id, 'ACTIVE');
    },
  );

  it('say why they could not be rescued, with their disk untouched', async () => {
    const { id } = servers.server('cold');
    const lun = await nova.upload(
      'rescue-lun',
      'qcow2',
      await readFile(join(CLOUD, 'images', 'tiny.qcow2')),
      {
        hw_rescue_device: 'lun',
      },
    );
    images.push(lun);
    await nova.action(id, { rescue: { rescue_image_ref: lun } });
    const failed = await nova.waitForStatus(id, 'ERROR');
    expect(failed.fault?.message).toMatch(/cannot be rescued.*rescue device 'lun' is not supported/);
    await nova.action(id, { reboot: { type: 'HARD' } });
    await waitForPing(nova, await nova.waitForStatus(id, 'ACTIVE', 60_000, { despiteError: true }));
  });
});
