/**
 * A libvirtd of a test's own: own mount namespace, own state, own sockets; neither sees the machine's libvirtd nor is seen.
 * Guests run without sandboxing by namespaces or cgroups, as inside containers; as root, or as Debian's libvirt-qemu.
 * The programs are the machine's, or those of another system that lies in a folder (`devstack/images/hypervisor` makes one).
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from './until';

const run = promisify(execFile);

/** Two daemons that share the ports of the network would now and then choose the same one. */
const VNC_PORTS = 20;
const FIRST_VNC_PORT = 20_000 + (process.pid % 500) * VNC_PORTS;
const AS_ROOT = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
`;
const AS_LIBVIRT_QEMU = `user = "libvirt-qemu"
group = "libvirt-qemu"
`;
const QEMU_CONF = `security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "logd"
remote_display_port_min = ${FIRST_VNC_PORT}
remote_display_port_max = ${FIRST_VNC_PORT + VNC_PORTS - 1}
`;
const NAMESPACE = `set -e
[ -z "$PREBAKE_TEST_HOSTNAME" ] || hostname "$PREBAKE_TEST_HOSTNAME"
root=$2
# Paths of a test's files are the same inside.
if [ -n "$root" ]; then for shared in dev proc sys tmp; do mount --rbind "/$shared" "$root/$shared"; done; fi
mkdir -p "$root/run/libvirt"; mount -t tmpfs tmpfs "$root/run/libvirt"
mount --bind "$1/etc" "$root/etc/libvirt"; mount --bind "$1/lib" "$root/var/lib/libvirt"
mount --bind "$1/cache" "$root/var/cache/libvirt"; mount --bind "$1/log" "$root/var/log/libvirt"
if [ -e "$1/no-kvm" ]; then mount --bind "$1/no-kvm" /dev/kvm; fi
shift 2; exec chroot "$root/" "$@"`;

export class PrivateLibvirtd {
  private daemon: ChildProcess | undefined;
  private logd: ChildProcess | undefined;

  private constructor(
    /** Scratch directory of this daemon, removed with it. */
    readonly directory: string,
    private readonly hostname: string,
    private readonly root: string,
  ) {}

  /**
   * @param options.hook script that libvirtd calls for its guests
   * @param options.qemuAsRoot default true
   * @param options.hostname what it calls its host, instead of what the machine does
   * @param options.root folder of the system whose libvirt and QEMU run, instead of the machine's
   */
  static async start(
    options: {
      readonly hook?: string;
      readonly qemuAsRoot?: boolean;
      readonly hostname?: string;
      readonly root?: string | undefined;
    } = {},
  ): Promise<PrivateLibvirtd> {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-libvirtd-'));
    const root = options.root ?? '';
    const libvirtd = new PrivateLibvirtd(directory, options.hostname ?? '', root);
    try {
      await chmod(directory, 0o755);
      await Promise.all(['lib', 'cache', 'log', 'run'].map((name) => mkdir(join(directory, name))));
      await cp(`${root}/etc/libvirt`, join(directory, 'etc'), { recursive: true });
      await rm(join(directory, 'etc/qemu'), { recursive: true, force: true });
      await rm(join(directory, 'etc/hooks'), { recursive: true, force: true });
      if (options.hook !== undefined) await cp(options.hook, join(directory, 'etc/hooks/qemu.d/test'));
      const user = (options.qemuAsRoot ?? true) ? AS_ROOT : AS_LIBVIRT_QEMU;
      await writeFile(join(directory, 'etc/qemu.conf'), `${user}${QEMU_CONF}`);
      // Where libvirt believes that QEMU's user may use KVM, and QEMU finds that it may not, each start asks QEMU anew for
      // all it can do. Nobody's device is one that both leave alone.
      if (options.qemuAsRoot === false) await writeFile(join(directory, 'no-kvm'), '', { mode: 0o600 });
      await writeFile(
        join(directory, 'etc/libvirtd.conf'),
        `auth_unix_rw = "none"\nauth_unix_ro = "none"\nunix_sock_dir = "${directory}/run"\n`,
      );
      await writeFile(join(directory, 'namespace.sh'), NAMESPACE);
      await libvirtd.startDaemon();
    } catch (error) {
      await libvirtd.stop();
      throw error;
    }
    return libvirtd;
  }

  get uri(): string {
    return `qemu+unix:///system?socket=${this.directory}/run/libvirt-sock`;
  }

  /** The command that runs a program where this daemon's guests run: among its files, with its QEMU. */
  inside(...command: string[]): { readonly program: string; readonly args: string[] } {
    const { pid } = this.logd ?? {};
    if (pid === undefined) throw new Error('libvirtd does not run');
    return {
      program: '/usr/bin/nsenter',
      args: ['-t', String(pid), '-m', '-u', '-r', '--wdns=/', '--', ...command],
    };
  }

  /** kill -9 of the daemon; its guests live on. */
  async killDaemon(): Promise<void> {
    await end(this.daemon, 'SIGKILL');
    this.daemon = undefined;
  }

  /** Stops the daemon's answers without closing its sockets. */
  freeze(frozen: boolean): void {
    this.daemon?.kill(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  async startDaemon(): Promise<void> {
    const script = join(this.directory, 'namespace.sh');
    if (this.logd === undefined) {
      const args = ['-m', '-u', '--propagation', 'private', 'bash', script, this.directory, this.root];
      this.logd = spawn(
        '/usr/bin/unshare',
        [...args, '/usr/sbin/virtlogd', '-p', join(this.directory, 'virtlogd.pid')],
        { stdio: 'ignore', env: { ...process.env, PREBAKE_TEST_HOSTNAME: this.hostname } },
      );
      await until('virtlogd', () => readFile(join(this.directory, 'virtlogd.pid')));
    }
    const { program, args } = this.inside('/usr/sbin/libvirtd', '-p', join(this.directory, 'libvirtd.pid'));
    this.daemon = spawn(program, args, { stdio: 'ignore' });
    await until('libvirtd', () => run('virsh', ['-c', this.uri, 'version'], { timeout: 10_000 }));
  }

  /** Ends its guests, the daemon, and removes the directory. Idempotent. */
  async stop(): Promise<void> {
    if (this.daemon !== undefined) {
      this.freeze(false);
      const { stdout } = await run('virsh', ['-c', this.uri, 'list', '--name']);
      for (const name of stdout.split('\n').filter(Boolean))
        await run('virsh', ['-c', this.uri, 'destroy', name]);
    }
    await end(this.daemon, 'SIGTERM');
    await end(this.logd, 'SIGTERM');
    this.daemon = undefined;
    this.logd = undefined;
    await rm(this.directory, { recursive: true, force: true });
  }
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}
