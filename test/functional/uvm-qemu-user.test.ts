/** µVMs where libvirt runs QEMU as a user of its own, as Debian's does: baked, proven and started from, and none can write to them. */
import { readdir, stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { execFile } from 'node:child_process';
import type { UvmManifest } from '../../lib/squirrel';
import { sha256Of } from '../support/sha256';
import { type Guest, openFiles, uncoveredFiles } from './support/apparmor';
import { until } from './support/until';
import { hostnameOf, reportOf, UvmHost } from './support/uvm-host';

const run = promisify(execFile);
const WHO_TIMEOUT_MS = 60_000;
const flavor = { name: 'm1', vcpus: 2, memoryMb: 384, rootGb: 1, ephemeralGb: 1, swapMb: 64, extraSpecs: {} };

let host: UvmHost;
let manifest: UvmManifest;
let baking: Guest;

jest.setTimeout(300_000);

beforeAll(async () => {
  host = await UvmHost.start({
    imageFile: 'tiny.qcow2',
    baseMemoryMb: 256,
    bakeTimeoutS: 240,
    gateTimeoutMs: 90_000,
    qemuAsRoot: false,
  });
  [manifest, baking] = await Promise.all([host.baker.bake(host.image), guestOfBake()]);
});
afterEach(async () => {
  await host.destroyServers();
});
afterAll(() => host.stop());

/** The guest that is being baked, as soon as it runs. */
function guestOfBake(): Promise<Guest> {
  return until(
    'a bake',
    async () => {
      const [uuid] = (await host.virsh('list', '--uuid')).trim().split('\n');
      if (uuid === undefined || uuid === '') throw new Error('no guest yet');
      return await guest(uuid);
    },
    120_000,
  );
}

async function guest(uuid: string): Promise<Guest> {
  return { uuid, xml: await host.virsh('dumpxml', uuid), files: await openFiles(uuid) };
}

test("two servers of one µVM have memory of their own, which is their user's", async () => {
  expect(userInfo().uid).toBe(0);
  const { stdout } = await run('id', ['--user', 'libvirt-qemu']);
  const uid = Number(stdout);
  const { ramPath } = await host.squirrel.materialise(manifest.key);
  const before = await sha256Of(ramPath);
  expect(await stat(ramPath)).toMatchObject({ uid: 0, mode: 0o100444 });

  const servers = [host.server(flavor), host.server(flavor)];
  await Promise.all(
    servers.map(async (instance) => reportOf(await host.driver.spawn(await host.request(instance)))),
  );
  for (const instance of servers) {
    const who = await host.whoIs(instance, WHO_TIMEOUT_MS);
    expect(who.get('hostname')).toBe(hostnameOf(instance));
    expect(who.get('cpus')).toBe('2');
  }
  const memory = join(host.libvirtd.directory, 'lib/qemu/ram');
  const directories = await readdir(memory);
  expect(directories).toHaveLength(servers.length);
  for (const directory of directories) {
    expect(await stat(join(memory, directory, 'ram-node0'))).toMatchObject({ uid, mode: 0o100600 });
  }
  expect(await sha256Of(ramPath)).toBe(before);

  for (const { uuid } of servers) {
    expect(await uncoveredFiles(await guest(uuid), host.squirrel.directory)).toEqual([]);
  }
  for (const instance of servers) await host.driver.destroy(instance);
  expect(await readdir(memory)).toEqual([]);
});

test("AppArmor's rules cover what QEMU has open during a bake, and would not without those for µVMs", async () => {
  expect(await uncoveredFiles(baking, host.squirrel.directory)).toEqual([]);
  expect(await uncoveredFiles(baking, host.squirrel.directory, false)).toContainEqual(
    expect.stringMatching(/\/bakes\/[^/]+\/ram rw$/),
  );
});
