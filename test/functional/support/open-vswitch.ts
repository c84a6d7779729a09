/** An Open vSwitch for a test: its database and its switch, which forwards in user space and so needs no kernel module. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from './until';

const run = promisify(execFile);
/** Where libvirt's ovs-vsctl looks. */
const RUN = '/var/run/openvswitch';
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

export class OpenVswitch {
  private readonly processes: ChildProcess[] = [];

  private constructor(private readonly directory: string) {}

  static async start(): Promise<OpenVswitch> {
    const ovs = new OpenVswitch(await mkdtemp(join(tmpdir(), 'prebake-ovs-')));
    try {
      await mkdir(RUN, { recursive: true });
      const database = join(ovs.directory, 'conf.db');
      await run('ovsdb-tool', ['create', database, SCHEMA]);
      ovs.spawn('/usr/sbin/ovsdb-server', [database, `--remote=punix:${RUN}/db.sock`]);
      await until('ovsdb-server', () => run('ovs-vsctl', ['--no-wait', '--timeout=5', 'init']));
      ovs.spawn('/usr/sbin/ovs-vswitchd', []);
      await until('ovs-vswitchd', () => run('ovs-vsctl', ['--timeout=5', 'show']));
    } catch (error) {
      await ovs.stop();
      throw error;
    }
    return ovs;
  }

  async vsctl(...args: string[]): Promise<string> {
    return (await run('ovs-vsctl', ['--timeout=20', ...args])).stdout.trim();
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    for (const child of this.processes.splice(0).reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const exited = once(child, 'exit');
      child.kill();
      await exited;
    }
    await rm(this.directory, { recursive: true, force: true });
  }

  private spawn(program: string, args: readonly string[]): void {
    this.processes.push(
      spawn(
        program,
        ['-vconsole:off', `--pidfile=${join(this.directory, `${this.processes.length}.pid`)}`, ...args],
        {
          stdio: 'ignore',
        },
      ),
    );
  }
}
