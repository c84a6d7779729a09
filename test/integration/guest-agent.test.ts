/** What is asked of the agent in a guest: passwords, and file systems at rest. The image is the tiny one with an agent. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { Instance } from '../../lib/objects';
import { CloudRpc } from '../support/cloud-rpc';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run, traces, virsh } from '../support/servers';

/** Where its one partition begins. */
const PARTITION_BYTES = 1024 * 1024;

describe('a guest with an agent', () => {
  let nova: NovaApi;
  let rpc: CloudRpc;
  let compute: ComputeProcess;
  let directory: string;
  let image: string;
  let id: string;

  beforeAll(async () => {
    nova = await NovaApi.login();
    rpc = await CloudRpc.connect();
    directory = await mkdtemp(join(tmpdir(), 'prebake-guest-agent-'));
    const content = await readFile(join(CLOUD, 'images', 'tiny-ssh.qcow2'));
    const properties = { hw_qemu_guest_agent: 'yes', os_require_quiesce: 'yes', prebake: 'never' };
    image = await nova.upload('with-agent', 'qcow2', content, properties);
    compute = await ComputeProcess.start();
    await run(ALL_IN_ONE, ['discover-hosts']);
    id = await nova.create({ name: 'agent', image, flavor: await nova.flavorId('m1.micro') });
    await nova.waitForStatus(id, 'ACTIVE');
    await waitFor(
      async () => {
        try {
          return await agent('guest-ping');
        } catch {
          return null;
        }
      },
      120_000,
      () => 'the agent does not answer',
    );
  });
  afterAll(async () => {
    await nova.delete(id);
    await nova.waitForGone(id);
    await nova.deleteImage(image);
    const left = await traces(nova, { id });
    await compute.stop();
    await rpc.close();
    await rm(directory, { recursive: true });
    expect(left).toEqual([]);
  });

  /** Asks the agent beside the service. */
  async function agent(execute: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const command = JSON.stringify({ execute, arguments: args });
    const answer: unknown = JSON.parse(await virsh('qemu-agent-command', id, command));
    return z.object({ return: z.unknown() }).parse(answer).return;
  }

  /** A file of the guest. */
  async function guestFile(path: string): Promise<string> {
    const handle = await agent('guest-file-open', { path });
    const read = await agent('guest-file-read', { handle });
    await agent('guest-file-close', { handle });
    return Buffer.from(z.object({ 'buf-b64': z.string() }).parse(read)['buf-b64'], 'base64').toString();
  }

  // matrix: operation.set-admin-password
  it("gets its administrator's password", async () => {
    expect(await guestFile('/etc/passwd')).toMatch(/^root::/);
    await nova.action(id, { changePassword: { adminPass: 'much-better' } });
    await waitFor(
      async () => (/^root:\$6\$/.test(await guestFile('/etc/passwd')) ? true : null),
      30_000,
      () => 'the password was not set',
    );
    expect((await nova.waitForStatus(id, 'ACTIVE')).fault).toBeUndefined();
  });

  // matrix: operation.quiesce, operation.unquiesce
  it('has its file systems brought to rest for those who copy its disks, and let go on', async () => {
    const instance = await rpc.find(Instance, ['Instance', 'get_by_uuid'], [id]);
    await rpc.askCompute('compute', '6.0', 'quiesce_instance', { instance });
    expect(await agent('guest-fsfreeze-status')).toBe('frozen');
    await rpc.askCompute('compute', '6.0', 'unquiesce_instance', { instance, mapping: null });
    expect(await agent('guest-fsfreeze-status')).toBe('thawed');
  });

  // matrix: operation.snapshot
  it('gives a snapshot whose file system needs no repair', async () => {
    const answer = await nova.action(id, { createImage: { name: 'at-rest' } });
    const { image_id: made } = z.object({ image_id: z.string() }).parse(answer);
    try {
      await waitFor(
        async () => {
          const { status } = z
            .looseObject({ status: z.string() })
            .parse(await nova.get('image', `/v2/images/${made}`));
          return status === 'active' ? true : null;
        },
        120_000,
        () => 'the image did not become active',
      );
      expect(await agent('guest-fsfreeze-status')).toBe('thawed');
      const copy = join(directory, 'copy');
      const { data } = await nova.http.get<ArrayBuffer>(`${nova.url('image')}/v2/images/${made}/file`, {
        responseType: 'arraybuffer',
      });
      await writeFile(copy, Buffer.from(data));
      await run('qemu-img', ['convert', '-O', 'raw', copy, `${copy}.raw`]);
      const { stdout } = await run('dumpe2fs', ['-h', `${copy}.raw?offset=${PARTITION_BYTES}`]);
      expect(stdout).toMatch(/^Filesystem features: .*has_journal/m);
      expect(stdout).not.toMatch(/needs_recovery/);
    } finally {
      await nova.deleteImage(made);
    }
  });
});
