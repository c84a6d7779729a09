/** The libvirt hook as libvirt calls it: touches prebake's guests only, and refuses RAM files that are not a cache's. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

const HOOK = join(__dirname, '../../drivers/libvirt/hook/prebake');
let directory: string;
let cache: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'prebake-hook-'));
  cache = join(directory, 'cache');
  await mkdir(join(cache, 'materialised/key'), { recursive: true });
  await writeFile(join(cache, '.prebake-cache'), '');
  await writeFile(join(cache, 'materialised/key/ram'), '');
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function definition(ram: string, more = ''): string {
  return `<domain type='qemu' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>instance-0000002a</name>
  <metadata>
    <prebake:uvm xmlns:prebake="urn:prebake:1" ram="${ram}"${more} directory="/x"/>
  </metadata>
</domain>`;
}

/** Runs the hook with its memory directory moved into the test's own. */
async function hook(xml: string, args: readonly string[]): Promise<{ code: number | null; stderr: string }> {
  const confined = `sed 's#/var/lib/libvirt/qemu/ram#${directory}/ram#; s#/etc/libvirt/qemu.conf#${directory}/qemu.conf#' "$0" >"${directory}/hook"; exec sh "${directory}/hook" "$@"`;
  const child = spawn('sh', ['-c', confined, HOOK, ...args], { stdio: ['pipe', 'ignore', 'pipe'] });
  child.stdin.end(xml);
  const [stderr, [code]] = await Promise.all([
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, stderr };
}

const BEGIN = ['instance-0000002a-and-a-long-tail', 'prepare', 'begin', '-'];

test('links the RAM file to where libvirt will look for it', async () => {
  const ram = join(cache, 'materialised/key/ram');
  expect(await hook(definition(ram), BEGIN)).toEqual({ code: 0, stderr: '' });
  expect(await readlink(join(directory, 'ram/7-instance-0000002a-an/ram-node0'))).toBe(ram);
});

test('gives a QEMU that is not root a copy of its own', async () => {
  const ram = join(cache, 'materialised/key/ram');
  await writeFile(ram, 'pages');
  // Nobody but root could give it to another.
  const { uid, gid } = userInfo();
  expect(await hook(definition(ram, ` copy="${uid}:${gid}"`), BEGIN)).toEqual({ code: 0, stderr: '' });
  const place = join(directory, 'ram/7-instance-0000002a-an');
  expect(await stat(place)).toMatchObject({ uid, gid, mode: 0o040700 });
  expect(await lstat(join(place, 'ram-node0'))).toMatchObject({ uid, gid, mode: 0o100600 });
  expect(await readFile(join(place, 'ram-node0'), 'utf8')).toBe('pages');
});

test.each(['', 'root', '0', '1:', ':1', '1:2:3', '0:0 --reference=/x'])(
  'gives no copy to %j',
  async (owner) => {
    const ram = join(cache, 'materialised/key/ram');
    expect((await hook(definition(ram, ` copy="${owner}"`), BEGIN)).code).toBe(1);
    expect(await readdir(directory)).not.toContain('ram');
  },
);

test("follows the operator's memory_backing_dir", async () => {
  const ram = join(cache, 'materialised/key/ram');
  await writeFile(
    join(directory, 'qemu.conf'),
    `#memory_backing_dir = "/no"\nmemory_backing_dir = "${directory}/m"\n`,
  );
  expect((await hook(definition(ram), BEGIN)).code).toBe(0);
  expect(await readlink(join(directory, 'm/libvirt/qemu/7-instance-0000002a-an/ram-node0'))).toBe(ram);
});

test.each([
  ['another operation', ['instance-1', 'start', 'begin', '-'], true],
  ['a guest that is none of ours', BEGIN, false],
])('leaves alone %s', async (_what, args, ours) => {
  const xml = ours ? definition(join(cache, 'materialised/key/ram')) : "<domain type='kvm' id='1'></domain>";
  expect(await hook(xml, args)).toEqual({ code: 0, stderr: '' });
  expect(await readdir(directory)).not.toContain('ram');
});

test.each([
  ['outside of a cache', () => '/etc/materialised-not/ram'],
  ['in a directory that is no cache', () => join(directory, 'materialised/key/ram')],
  ['by way of ..', () => `${cache}/materialised/../materialised/key/ram`],
  ['with odd characters', () => `${cache}/materialised/$(touch x)/ram`],
  ['that is not there', () => `${cache}/materialised/other/ram`],
  ['that is a link', () => `${cache}/materialised/link/ram`],
])('refuses a RAM file %s', async (_what, path) => {
  await mkdir(join(cache, 'materialised/link'));
  await symlink('/etc/passwd', join(cache, 'materialised/link/ram'));
  const { code, stderr } = await hook(definition(path()), BEGIN);
  expect(code).toBe(1);
  expect(stderr).toContain('prebake: ');
  expect(await readdir(directory)).not.toContain('ram');
});

test('refuses a name that is not one of ours', async () => {
  const ram = join(cache, 'materialised/key/ram');
  expect((await hook(definition(ram), ['../../evil', 'prepare', 'begin', '-'])).code).toBe(1);
});
