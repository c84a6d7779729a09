/**
 * A guest in plain QEMU, without libvirt and without any network: for tests of what runs inside a guest.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { ConfigDriveFile } from '../../../drivers/driver';
import { GATE_PORT } from '../../../lib/bake/gate-protocol';

const run = promisify(execFile);

export interface PlainGuestOptions {
  /** qcow2 that stays as it is; the guest writes to an overlay. */
  readonly imagePath: string;
  readonly memoryMb: number;
  readonly drive: readonly ConfigDriveFile[];
  /** Further arguments of QEMU. */
  readonly extra?: readonly string[];
}

const replySchema = z.object({
  return: z.unknown().optional(),
  error: z.object({ desc: z.string() }).optional(),
  event: z.string().optional(),
});

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

/** QEMU's monitor: one command at a time. */
class Monitor {
  private readonly replies: ((reply: z.infer<typeof replySchema>) => void)[] = [];
  private readonly listeners = new Map<string, (() => void)[]>();

  private constructor(private readonly socket: Socket) {
    createInterface({ input: socket }).on('line', (line) => {
      const reply = replySchema.parse(JSON.parse(line));
      if (reply.event !== undefined) {
        for (const listener of this.listeners.get(reply.event) ?? []) listener();
        this.listeners.delete(reply.event);
      } else if ('return' in reply || reply.error !== undefined) {
        this.replies.shift()?.(reply);
      }
    });
  }

  static async connect(path: string): Promise<Monitor> {
    for (let attempt = 0; ; attempt += 1) {
      const socket = createConnection({ path });
      try {
        await once(socket, 'connect');
        const monitor = new Monitor(socket);
        await monitor.command('qmp_capabilities', {});
        return monitor;
      } catch (error) {
        if (attempt >= 200) throw error;
        await delay(50);
      }
    }
  }

  async command(name: string, args: Record<string, unknown>): Promise<unknown> {
    const reply = await new Promise<z.infer<typeof replySchema>>((resolve) => {
      this.replies.push(resolve);
      this.socket.write(`${JSON.stringify({ execute: name, arguments: args })}\n`);
    });
    if (reply.error !== undefined) throw new Error(`${name}: ${reply.error.desc}`);
    return reply.return;
  }

  event(name: string): Promise<void> {
    return new Promise((resolve) => {
      this.listeners.set(name, [...(this.listeners.get(name) ?? []), resolve]);
    });
  }

  close(): void {
    this.socket.destroy();
  }
}
