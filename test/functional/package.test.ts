/**
 * The Debian package on a machine without a compiler: installed, asked, serving the cloud, upgraded, removed and purged.
 * The machine is this one's file system under a layer that is thrown away.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import axios from 'axios';
import { z } from 'zod';
import { commandsRunBy } from '../support/documentation';
import { until } from './support/until';

const run = promisify(execFile);
const ROOT = join(__dirname, '../..');
const CLOUD = process.env.PREBAKE_CLOUD ?? '/srv/prebake-cloud';

/** In mount and process namespaces of its own; its life is that of the program. */
const MACHINE = `
set -e
mount -t tmpfs -o size=2g tmpfs "$1"
mkdir "$1"/upper "$1"/work "$1"/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1"/root
for place in /dev /run "$2" "$3"; do mkdir -p "$1/root$place"; mount --rbind "$place" "$1/root$place"; done
# The machine's own systemd, where it has one, is none of theirs.
for place in systemd dbus; do [ ! -d "$1/root/run/$place" ] || mount -t tmpfs tmpfs "$1/root/run/$place"; done
mount -t proc proc "$1"/root/proc
mount -t sysfs sysfs "$1"/root/sys
rm -f "$1"/root/usr/bin/gcc* "$1"/root/usr/bin/g++* "$1"/root/usr/bin/make "$1"/root/usr/bin/cc "$1"/root/usr/bin/*-linux-gnu-g*
rm -rf "$1"/root/usr/lib/gcc "$1"/root/usr/include/node
echo ready
exec sleep infinity
`;

/** A throw-away machine. */
class Machine {
  private constructor(
    private readonly holder: ChildProcess,
    private readonly pid: string,
    private readonly directory: string,
    readonly packagesDirectory: string,
  ) {}

  /** @param packagesDirectory is seen in the machine, too */
  static async make(packagesDirectory: string): Promise<Machine> {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-machine-'));
    const holder = spawn(
      'unshare',
      [
        ...['--mount', '--pid', '--fork', '--kill-child', '--propagation', 'private'],
        ...['bash', '-c', MACHINE, 'machine', directory, CLOUD, packagesDirectory],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let said = '';
    holder.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('the machine is there', () => said.includes('ready'));
    const { stdout } = await run('pgrep', ['--parent', String(holder.pid)]);
    return new Machine(holder, stdout.trim(), directory, packagesDirectory);
  }

  /** The arguments that run a command in it. */
  command(...command: readonly string[]): readonly [string, readonly string[]] {
    const root = `--root=/proc/${this.pid}/root${this.directory}/root`;
    return [
      'nsenter',
      // --wdns, not --wd: programs that ask where they are have to find themselves inside.
      [`--target=${this.pid}`, '--mount', '--pid', root, '--wdns=/', 'env', '-i', ...ENVIRONMENT, ...command],
    ];
  }

  /** What a command said; its exit code is for the caller to judge. */
  async run(...command: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const [program, args] = this.command(...command);
    try {
      return { code: 0, ...(await run(program, [...args], { timeout: 120_000 })) };
    } catch (error) {
      return z.object({ code: z.number(), stdout: z.string(), stderr: z.string() }).parse(error);
    }
  }

  /** What a shell said, in the directory of the packages; rejects when a command fails. */
  async shell(text: string): Promise<string> {
    const { code, stdout, stderr } = await this.run(
      ...['sh', '-euc', 'cd "$1"; eval "$2"', 'sh', this.packagesDirectory, text],
    );
    if (code !== 0) throw new Error(`${text}: ${code}: ${stdout}${stderr}`);
    return stdout;
  }

  async stop(): Promise<void> {
    const ended = once(this.holder, 'exit');
    process.kill(Number(this.pid), 'SIGKILL');
    await ended;
    await rm(this.directory, { recursive: true });
  }
}

const ENVIRONMENT = ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LANG=C.UTF-8', 'DEBIAN_FRONTEND=noninteractive'];
const OURS = [
  '/usr/bin/prebake',
  '/usr/lib/prebake',
  '/etc/prebake',
  '/lib/systemd/system/prebake-compute.service',
  '/etc/apparmor.d/abstractions/prebake',
];

const TYPED = commandsRunBy('test/functional/package.test.ts');
/** The one command of the documentation that begins so. */
function typed(beginning: string): string {
  const [command = '', ...others] = TYPED.filter((text) => text.startsWith(beginning));
  expect(others).toEqual([]);
  return command;
}

describe('the Debian package', () => {
  let packages: string;
  let file: string;
  let machine: Machine;

  beforeAll(async () => {
    packages = await mkdtemp(join(tmpdir(), 'prebake-packages-'));
    const { stdout } = await run('bash', ['-euc', typed('npm ')], { cwd: ROOT, timeout: 300_000 });
    const built = stdout.trimEnd().split('\n').at(-1) ?? '';
    file = join(packages, basename(built));
    await copyFile(join(ROOT, built), file);
    machine = await Machine.make(packages);
    await giveNode();
    // The host of the pages runs nova-compute; nobody is there to answer apt.
    await machine.shell(
      `printf '[Service]\\nExecStart=/usr/bin/nova-compute\\n[Install]\\nWantedBy=multi-user.target\\n' \
         >/etc/systemd/system/nova-compute.service
       printf 'APT::Get::Assume-Yes "true";\\nAPT::Install-Recommends "false";\\n' >/etc/apt/apt.conf.d/99prebake`,
    );
  });
  afterAll(async () => {
    await machine.stop();
    await rm(packages, { recursive: true });
  });

  /** A package of the node that runs here, as NodeSource makes them, for a machine that has it from elsewhere. */
  async function giveNode(): Promise<void> {
    const { version } = process;
    const stage = join(packages, 'nodejs');
    await mkdir(join(stage, 'DEBIAN'), { recursive: true });
    await mkdir(join(stage, 'usr/bin'), { recursive: true });
    await copyFile(process.execPath, join(stage, 'usr/bin/node'));
    await writeFile(
      join(stage, 'DEBIAN/control'),
      `Package: nodejs\nVersion: ${version.slice(1)}\nArchitecture: ${process.arch === 'x64' ? 'amd64' : process.arch}\n` +
        // As Debian's: others depend on nodejs:any.
        'Multi-Arch: allowed\n' +
        'Maintainer: The prebake authors <prebake@localhost>\nDescription: Node.js\n',
    );
    await run('dpkg-deb', ['--build', '--root-owner-group', '-Znone', stage, `${stage}.deb`]);
    expect(await machine.run('dpkg', '--install', '--force-downgrade', `${stage}.deb`)).toMatchObject({
      code: 0,
    });
    expect(await machine.run('node', '--version')).toMatchObject({ stdout: `${version}\n` });
  }

  test('is small, belongs to root, and asks for the node that its binaries fit', async () => {
    const { stdout: info } = await run('dpkg-deb', ['--info', file]);
    const major = Number(process.versions.node.split('.')[0]);
    expect(info).toContain(`nodejs (>= ${major}), nodejs (<< ${major + 1}~)`);
    const { stdout: list } = await run('dpkg-deb', ['--contents', file], { maxBuffer: 1e8 });
    const lines = list.trimEnd().split('\n');
    expect(lines.filter((line) => !/^[-dl]\S+ root\/root /.test(line))).toEqual([]);
    // No sources, tests or types; nothing that only the build needs.
    expect(
      lines.filter((line) => /\.ts$|\.map$|node_modules\/(jest|typescript|@swc|eslint)\b/.test(line)),
    ).toEqual([]);
    expect(lines.filter((line) => line.endsWith('.node'))).toHaveLength(3);
  });

  test('is installed without a compiler, and starts nothing', async () => {
    expect((await machine.run('sh', '-c', 'command -v gcc g++ make cc')).stdout).toBe('');
    expect(await machine.shell(typed('apt-get '))).toContain('installed and not started');
    expect((await machine.run('dpkg', '--verify', 'prebake-compute')).stdout).toBe('');
    // Other units of the machine may have faults of their own.
    const verified = await machine.run('systemd-analyze', 'verify', 'prebake-compute.service');
    expect(verified.code).toBe(0);
    expect(verified.stderr).not.toContain('prebake-compute');
    const { version } = z
      .object({ version: z.string() })
      .parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')));
    expect(await machine.run('prebake', '--version')).toMatchObject({ code: 0, stdout: `${version}\n` });
    expect(await machine.run('prebake-compute', '--version')).toMatchObject({
      code: 0,
      stdout: `${version}\n`,
    });
  });

  // Enabling is real here; what starts is the test after next.
  test('is put in place of nova-compute, and taken out again, as the pages say', async () => {
    const enabled = async () =>
      (await machine.run('systemctl', 'is-enabled', 'nova-compute', 'prebake-compute')).stdout
        .trim()
        .split('\n');
    const seen: string[][] = [];
    for (const command of TYPED.filter((text) => text.startsWith('systemctl '))) {
      const { stderr } = await machine.run('sh', '-c', command);
      // All that it cannot do here is to have a systemd start or stop them.
      expect(stderr).toMatch(/Running in chroot, ignoring|not been booted with systemd/);
      seen.push(await enabled());
    }
    expect(seen.slice(-4)).toEqual([
      ['disabled', 'disabled'],
      ['disabled', 'enabled'],
      ['disabled', 'disabled'],
      ['enabled', 'disabled'],
    ]);
    await machine.shell(typed('echo '));
    expect(await machine.shell('cat /etc/apparmor.d/local/abstractions/libvirt-qemu')).toContain(
      'include <abstractions/prebake>',
    );
  });

  test('has a sample of its options, and reads it beside nova.conf', async () => {
    await machine.run(
      'sh',
      '-c',
      `mkdir -p /etc/nova && cp ${CLOUD}/etc/nova-compute.conf /etc/nova/nova.conf`,
    );
    await machine.run('rm', '-f', '/etc/nova/nova-compute.conf');
    const check = await machine.run('prebake', 'config', 'check');
    expect(check.stdout).toMatch(
      /host 'prebake' is right: .*\/etc\/nova\/nova.conf, \/etc\/prebake\/prebake.conf/,
    );
    await machine.run('sed', '-i', 's/^#bake = auto/bake = sometimes/', '/etc/prebake/prebake.conf');
    const wrong = await machine.run('prebake', 'config', 'check');
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toMatch(
      /prebake\.conf:\d+: \[prebake\] bake = sometimes: expected one of auto, tagged, all, never/,
    );
    await machine.run('sed', '-i', 's/^bake = sometimes/bake = never/', '/etc/prebake/prebake.conf');
  });

  test('examines the host', async () => {
    const { stdout } = await machine.run('prebake', 'doctor', '--json');
    expect(stdout).toMatch(/"(checks|findings|results)"/);
    expect(stdout).toContain('keystone');
  });

  test('serves the cloud as systemd would start it', async () => {
    const unit = await readFile(join(ROOT, 'docs/install/prebake-compute.service'), 'utf8');
    const start = /^ExecStart=(.+)$/m.exec(unit)?.[1] ?? '';
    const [program, args] = machine.command('UV_THREADPOOL_SIZE=32', ...start.split(' '));
    const service = spawn(program, [...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(service, 'exit');
    const ready = () =>
      axios.get('http://127.0.0.1:8790/readyz', { proxy: false, validateStatus: () => true });
    await until('the service is ready', async () =>
      (await ready().catch(() => null))?.status === 200 ? true : false,
    );
    await machine.run('pkill', '--newest', '--signal', 'TERM', '-f', 'prebake-compute');
    expect(await ended).toEqual([0, null]);
  });

  test('keeps what the operator changed at an upgrade and a removal, and nothing after a purge', async () => {
    expect(await machine.run('dpkg', '--install', file)).toMatchObject({ code: 0 });
    const conf = () => machine.run('cat', '/etc/prebake/prebake.conf');
    expect((await conf()).stdout).toMatch(/^bake = never$/m);
    expect(await machine.run('dpkg', '--remove', 'prebake-compute')).toMatchObject({ code: 0 });
    expect((await machine.run('prebake', '--version')).code).not.toBe(0);
    expect((await conf()).stdout).toMatch(/^bake = never$/m);
    expect(await machine.run('dpkg', '--purge', 'prebake-compute')).toMatchObject({ code: 0 });
    const left = await machine.run(
      'sh',
      '-c',
      `ls -d ${OURS.join(' ')} /etc/libvirt/hooks/qemu.d/prebake 2>/dev/null`,
    );
    expect(left.stdout).toBe('');
  });
});
