/** Servers with emulated TPMs: their passphrases in a real Barbican, their state in a real swtpm. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NOVA_CONF, NovaApi } from '../support/nova-api';
import { ALL_IN_ONE, run, traces, virsh } from '../support/servers';

const SIZE = { memoryMb: 128, vcpus: 1, rootGb: 1 };

let nova: NovaApi;
let directory: string;
let compute: ComputeProcess;
let image: string;
const flavors: string[] = [];

/** A service with TPMs or without, as the host of all tests. */
async function service(swtpmEnabled: boolean): Promise<ComputeProcess> {
  const file = join(directory, 'swtpm.conf');
  await writeFile(file, `[libvirt]\nswtpm_enabled = ${String(swtpmEnabled)}\n`);
  return await ComputeProcess.start({ configFiles: [NOVA_CONF, file] });
}

async function flavor(name: string, extraSpecs: Readonly<Record<string, string>>): Promise<string> {
  const id = await nova.makeFlavor({ name: `${name}-${process.pid}`, ...SIZE });
  flavors.push(id);
  await nova.setExtraSpecs(id, extraSpecs);
  return id;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'prebake-vtpm-'));
  nova = await NovaApi.login();
  image = await upload({});
  compute = await service(true);
  await run(ALL_IN_ONE, ['discover-hosts']);
});
afterAll(async () => {
  await compute.stop();
  await nova.deleteImage(image);
  for (const id of flavors) await nova.deleteFlavor(id);
  await rm(directory, { recursive: true });
});

/** Nothing is baked of it, and nothing asked of its guest when it is switched off. */
async function upload(properties: Readonly<Record<string, string>>): Promise<string> {
  const content = await readFile(join(CLOUD, 'images', 'tiny.qcow2'));
  return await nova.upload('tpm', 'qcow2', content, {
    prebake: 'never',
    os_shutdown_timeout: '0',
    ...properties,
  });
}

const stateOf = (id: string): string => join('/var/lib/libvirt/swtpm', id);

/** The secret of a server's TPM as its domain names it; null for one without a TPM. */
async function secretOf(id: string): Promise<string | null> {
  const xml = await virsh('dumpxml', id);
  return /<encryption secret='([0-9a-f-]+)'/.exec(xml)?.[1] ?? null;
}

/** How often a TPM was made for the server, by swtpm's own log. */
async function timesMade(id: string): Promise<number> {
  const name = (await virsh('domname', id)).trim();
  const log = await readFile(join('/var/log/swtpm/libvirt/qemu', `${name}-swtpm.log`), 'utf8');
  return [...log.matchAll(/Starting vTPM manufacturing/g)].length;
}

/** Where libvirt, QEMU and swtpm have the TPM. */
async function expectTpm(id: string): Promise<void> {
  expect(await virsh('dumpxml', id)).toMatch(
    /<tpm model='tpm-crb'>\s*<backend type='emulator' version='2\.0'>\s*<encryption secret=/,
  );
  expect(await virsh('qemu-monitor-command', '--hmp', id, 'info tpm')).toContain('model=tpm-crb');
  // libvirtd knows the passphrase no longer.
  expect(await virsh('secret-list')).not.toContain(await secretOf(id));
  const { stdout: processes } = await run('pgrep', ['--list-full', '--full', `swtpm socket.*${id}`]);
  expect(processes).toContain('--key');
}

// matrix: operation.boot-emulated-tpm
test('a TPM keeps its state as long as its server has one, and leaves nothing', async () => {
  const withTpm = await flavor('tpm', { 'hw:tpm_version': '2.0', 'hw:tpm_model': 'tpm-crb' });
  const without = await flavor('no-tpm', {});
  const id = await nova.create({ name: 'tpm', image, flavor: withTpm, networks: 'none' });
  try {
    await nova.waitForStatus(id, 'ACTIVE');
    expect(await compute.boot(id)).toMatchObject({ how: 'cold' });
    await expectTpm(id);
    const secret = (await secretOf(id)) ?? '';
    expect(await nova.secretName(secret)).toBe(`vTPM secret for instance ${id}`);

    await nova.action(id, { 'os-stop': null });
    await nova.waitForStatus(id, 'SHUTOFF');
    await nova.action(id, { 'os-start': null });
    await nova.waitForStatus(id, 'ACTIVE');
    await nova.action(id, { reboot: { type: 'HARD' } });
    await nova.waitForStatus(id, 'ACTIVE');
    await nova.action(id, { suspend: null });
    await nova.waitForStatus(id, 'SUSPENDED');
    await nova.action(id, { resume: null });
    await nova.waitForStatus(id, 'ACTIVE');
    await expectTpm(id);

    await nova.action(id, { resize: { flavorRef: without } });
    await nova.waitForStatus(id, 'VERIFY_RESIZE');
    expect([await secretOf(id), existsSync(stateOf(id))]).toEqual([null, false]);
    await nova.action(id, { revertResize: null });
    await nova.waitForStatus(id, 'ACTIVE');
    await expectTpm(id);
    expect([await secretOf(id), await timesMade(id)]).toEqual([secret, 1]);

    await nova.action(id, { resize: { flavorRef: without } });
    await nova.waitForStatus(id, 'VERIFY_RESIZE');
    await nova.action(id, { confirmResize: null });
    await nova.waitForStatus(id, 'ACTIVE');
    expect(await nova.secretName(secret)).toBeNull();

    await nova.action(id, { resize: { flavorRef: withTpm } });
    await nova.waitForStatus(id, 'VERIFY_RESIZE');
    await nova.action(id, { confirmResize: null });
    await nova.waitForStatus(id, 'ACTIVE');
    await expectTpm(id);
    expect(await timesMade(id)).toBe(2);
  } finally {
    const secret = await secretOf(id).catch(() => null);
    await nova.delete(id);
    await nova.waitForGone(id);
    expect(await traces(nova, { id })).toEqual([]);
    expect(existsSync(stateOf(id))).toBe(false);
    if (secret !== null) expect(await nova.secretName(secret)).toBeNull();
  }
});

test('a host without TPMs gets no such server, and does not start with one', async () => {
  const old = await upload({ hw_tpm_version: '1.2' });
  const fits = await flavor('tpm-by-image', {});
  const id = await nova.create({ name: 'old-tpm', image: old, flavor: fits, networks: 'none' });
  try {
    await nova.waitForStatus(id, 'ACTIVE');
    expect(await virsh('dumpxml', id)).toMatch(
      /<tpm model='tpm-tis'>\s*<backend type='emulator' version='1\.2'>/,
    );
    await compute.stop();
    await expect(service(false)).rejects.toThrow(/ended with 1/);
    expect(await readFile(join(CLOUD, 'log', 'prebake-compute.log'), 'utf8')).toMatch(
      /This host has instances with the vTPM feature enabled.*\n$/,
    );
    compute = await service(true);
  } finally {
    await nova.delete(id);
    await nova.waitForGone(id);
  }
  await compute.stop();
  compute = await service(false);
  const refused = await nova.create({ name: 'no-tpm', image: old, flavor: fits, networks: 'none' });
  try {
    const { fault } = await nova.waitForStatus(refused, 'ERROR');
    expect(fault?.message).toContain('No valid host was found');
  } finally {
    await nova.delete(refused);
    await nova.waitForGone(refused);
    await nova.deleteImage(old);
  }
});
