/** Files, keys and metadata on the disk of a server that has no config drive, written there before its first boot. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NOVA_CONF, NovaApi } from '../support/nova-api';
import { ALL_IN_ONE, run, traces } from '../support/servers';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4r1YcA4vPUhzG1Vd8Zc2JtZBvWmGgEkfFgWyK0yq0m injected';

let nova: NovaApi;
let directory: string;
let compute: ComputeProcess;
let image: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'prebake-injection-'));
  nova = await NovaApi.login();
  // Its guest would be asked to shut down.
  image = await nova.upload('inject', 'qcow2', await readFile(join(CLOUD, 'images', 'tiny.qcow2')), {
    os_shutdown_timeout: '0',
  });
  const file = join(directory, 'inject.conf');
  const options = ['inject_partition = 1', 'inject_key = true', 'inject_password = true'];
  await writeFile(file, ['[DEFAULT]', 'force_config_drive = false', '[libvirt]', ...options, ''].join('\n'));
  compute = await ComputeProcess.start({ configFiles: [NOVA_CONF, file] });
  await run(ALL_IN_ONE, ['discover-hosts']);
});
afterAll(async () => {
  await compute.stop();
  await nova.deleteImage(image);
  await rm(directory, { recursive: true });
});

/** What guestfish says of a stopped server's disk. */
async function onDisk(id: string, ...commands: readonly string[]): Promise<string> {
  const disk = join(CLOUD, 'lib', 'prebake', 'instances', id, 'disk');
  const script = join(directory, 'script');
  await writeFile(script, [...commands, ''].join('\n'));
  const libguestfs = ['LIBGUESTFS_BACKEND=direct', 'LIBGUESTFS_BACKEND_SETTINGS=force_tcg', 'guestfish'];
  const args = [...libguestfs, '--ro', '--format=qcow2', '-a', disk, '-m', '/dev/sda1', '-f', script];
  return (await run('env', args)).stdout;
}

// matrix: guest.setup.inject.file
test('a server has the files, the key and the metadata of its request on its disk', async () => {
  const url = nova.url('compute');
  const keyName = `injected-${process.pid}`;
  await nova.http.post(`${url}/os-keypairs`, { keypair: { name: keyName, public_key: KEY, type: 'ssh' } });
  const personality = [
    { path: '/srv/new place/"quoted".txt', contents: Buffer.from('first\n').toString('base64') },
    { path: 'etc/hostname', contents: Buffer.from('replaced\n').toString('base64') },
  ];
  // The last version of the API that takes files.
  const { data } = await nova.http.post<unknown>(
    `${url}/servers`,
    {
      server: {
        name: 'injected',
        imageRef: image,
        flavorRef: await nova.flavorId('m1.micro'),
        networks: 'none',
        key_name: keyName,
        metadata: { role: 'web' },
        personality,
      },
    },
    { headers: { 'OpenStack-API-Version': 'compute 2.56' } },
  );
  const { id } = z.object({ server: z.object({ id: z.string() }) }).parse(data).server;
  try {
    await nova.waitForStatus(id, 'ACTIVE');
    expect(await compute.boot(id)).toMatchObject({
      how: 'cold',
      why: 'files are written onto disks ([libvirt] inject_partition)',
    });
    await nova.action(id, { 'os-stop': null });
    await nova.waitForStatus(id, 'SHUTOFF');
    const found = await onDisk(
      id,
      'cat "/srv/new place/\\"quoted\\".txt"',
      'cat /etc/hostname',
      'cat /meta.js',
      'echo',
      'cat /root/.ssh/authorized_keys',
      'll /root/.ssh',
      'll "/srv"',
    );
    expect(found).toContain('first\n');
    expect(found).toContain('replaced\n');
    expect(found).toContain('{"role":"web"}');
    expect(found).toContain(`\n# The following ssh key was injected by Nova\n${KEY}\n`);
    expect(found).toMatch(/^-rw------- .* authorized_keys$/m);
    expect(found).toMatch(/^drwxr--r-- .* new place$/m);
  } finally {
    await nova.delete(id);
    await nova.waitForGone(id);
    await nova.http.delete(`${url}/os-keypairs/${keyName}`);
    expect(await traces(nova, { id })).toEqual([]);
  }
});
