/**
 * A guest in plain QEMU, without libvirt and without any network: for tests of what runs inside a guest.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { ConfigDriveFile } from '../../../drivers/driver';
import { GATE_PORT } from '../../../lib/bake/gate-protocol';
import { Monitor } from '../../support/qemu-monitor';

const run = promisify(execFile);

export interface PlainGuestOptions {
  /** qcow2 that stays as it is; the guest writes to an overlay. */
  readonly imagePath: string;
  readonly memoryMb: number;
  readonly drive: readonly ConfigDriveFile[];
  /** Further arguments of QEMU. */
  readonly extra?: readonly string[];
}

/** A running guest; whoever starts it ends it with `stop`. */
export class PlainGuest {
  private constructor(
    readonly directory: string,
    private readonly process: ChildProcess,
    private readonly monitor: Monitor,
  ) {}

  get gateSocketPath(): string {
    return join(this.directory, 'gate');
  }

  get consoleLogPath(): string {
    return join(this.directory, 'console.log');
  }

  static async start(options: PlainGuestOptions): Promise<PlainGuest> {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-guest-'));
    const disk = join(directory, 'disk.qcow2');
    const drive = join(directory, 'drive.iso');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', options.imagePath, disk]);
    await makeConfigDrive(join(directory, 'drive'), drive, options.drive);
    const qmp = join(directory, 'qmp');
    const child = spawn(
      'qemu-system-x86_64',
      [
        ...['-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'pc,usb=off', '-accel', 'tcg'],
        ...['-cpu', 'qemu64', '-smp', '1,maxcpus=4,sockets=4,cores=1,threads=1'],
        ...['-m', `${options.memoryMb}M,slots=4,maxmem=4G`],
        ...[
          '-chardev',
          `file,id=console,path=${join(directory, 'console.log')}`,
          '-serial',
          'chardev:console',
        ],
        ...['-qmp', `unix:${qmp},server=on,wait=off`],
        ...['-chardev', `socket,id=gate,path=${join(directory, 'gate')},server=on,wait=off`],
        ...['-device', 'virtio-serial-pci,addr=3'],
        ...['-device', `virtserialport,nr=1,chardev=gate,name=${GATE_PORT}`],
        ...['-drive', `if=none,id=root,file=${disk},format=qcow2,discard=unmap`],
        ...['-device', 'virtio-blk-pci,drive=root,id=root,addr=4'],
        ...['-drive', `if=none,id=drive,file=${drive},format=raw,readonly=on`],
        ...['-device', 'virtio-blk-pci,drive=drive,id=drive,addr=5'],
        ...['-device', 'virtio-rng-pci,addr=6', '-device', 'vmgenid,guid=auto'],
        ...(options.extra ?? []),
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    try {
      return new PlainGuest(directory, child, await Monitor.connect(qmp));
    } catch (error) {
      child.kill('SIGKILL');
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Runs a command of QEMU's monitor. */
  command(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    return this.monitor.command(name, args);
  }

  /** Resolves with the next event of that name. */
  event(name: string): Promise<void> {
    return this.monitor.event(name);
  }

  /** Ends the guest and removes all it had. */
  async stop(): Promise<void> {
    this.monitor.close();
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const exited = once(this.process, 'exit');
      this.process.kill('SIGKILL');
      await exited;
    }
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Writes the files to a directory and makes an ISO image of it, labelled as OpenStack's config drives are. */
async function makeConfigDrive(
  directory: string,
  path: string,
  files: readonly ConfigDriveFile[],
): Promise<void> {
  for (const file of files) {
    const target = join(directory, file.path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, file.content);
  }
  await run('genisoimage', ['-quiet', '-o', path, '-V', 'config-2', '-J', '-r', '-ldots', '-l', directory]);
}
