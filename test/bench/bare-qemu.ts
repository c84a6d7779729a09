/** A µVM restored by QEMU alone, with the command line that libvirt would give it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { UvmTemplate } from '../../drivers/driver';
import type { PrivateLibvirtd } from '../functional/support/private-libvirtd';
import { SPARES } from '../../drivers/libvirt/uvm/layout';
import { Monitor } from '../support/qemu-monitor';

const POLL_MS = 1;
const TIMEOUT_MS = 60_000;
/** The descriptor that QEMU finds the device state at: the first one after its standard ones. */
const STATE_FD = 3;
/** From this version of QEMU on, it opens files itself, and takes no descriptors of them. */
const FIRST_WITH_FILES = 9;

/** QEMU's word for the slot of a µVM's NIC. */
const NIC_ADDRESS = `0x${/:(\w+)\.0$/.exec(SPARES[1] ?? '')?.[1] ?? ''}`;

const statusSchema = z.object({ status: z.string() });

/** Milliseconds from the start of the process until the guest runs, and of that from a QEMU that listens to one whose guest runs. */
export interface BareRestore {
  readonly totalMs: number;
  readonly loadMs: number;
}

/**
 * Starts QEMU, has it load the state, runs the guest, and ends it.
 * @param libvirtd whose QEMU it is
 * @param command as `virsh domxml-to-native qemu-argv` prints it
 * @param directory for its sockets
 */
export async function restoreBare(
  libvirtd: PrivateLibvirtd,
  command: string,
  uvm: UvmTemplate,
  directory: string,
): Promise<BareRestore> {
  const monitorPath = join(directory, 'monitor');
  const state = await open(uvm.statePath, 'r');
  try {
    // The shell is there when the clock starts: what is measured is QEMU.
    const qemuCommand = withoutLibvirt(command, uvm, directory, monitorPath);
    const { program, args } = libvirtd.inside(
      '/bin/sh',
      '-c',
      `echo; read go; exec ${qemuCommand} >/dev/null`,
    );
    const qemu = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit', state.fd] });
    try {
      if (qemu.stdin === null || qemu.stdout === null) throw new Error('the shell has no pipes');
      await once(qemu.stdout, 'data', { signal: AbortSignal.timeout(TIMEOUT_MS) });
      const beganAt = performance.now();
      qemu.stdin.end('\n');
      const monitor = await Monitor.connect(monitorPath);
      const connectedAt = performance.now();
      await load(monitor, uvm);
      await monitor.command('cont', {});
      const runsAt = performance.now();
      monitor.close();
      return { totalMs: runsAt - beganAt, loadMs: runsAt - connectedAt };
    } finally {
      await end(qemu);
    }
  } finally {
    await state.close();
  }
}

async function load(monitor: Monitor, { platform, statePath }: UvmTemplate): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await monitor.command('migrate-set-capabilities', { capabilities });
  const uri = platform.qemuMajorVersion < FIRST_WITH_FILES ? `fd:${STATE_FD}` : `file:${statePath}`;
  await monitor.command('migrate-incoming', { uri });
  const endMs = performance.now() + TIMEOUT_MS;
  while (statusSchema.parse(await monitor.command('query-status', {})).status === 'inmigrate') {
    if (performance.now() > endMs) throw new Error(`QEMU did not load the device state in ${TIMEOUT_MS} ms`);
    await delay(POLL_MS);
  }
}

async function end(qemu: ChildProcess): Promise<void> {
  if (qemu.exitCode !== null || qemu.signalCode !== null) return;
  const gone = once(qemu, 'exit');
  qemu.kill('SIGKILL');
  await gone;
}

/** The same machine, with what libvirt keeps for itself elsewhere or left out: its secret, its sockets, its memory files. */
function withoutLibvirt(command: string, uvm: UvmTemplate, directory: string, monitorPath: string): string {
  return (
    command
      .replaceAll('\\\n', ' ')
      .trim()
      .replace(/^(?:[A-Z_]+=\S+\s+)+/, '')
      .replace(/-object '\{"qom-type":"secret".*?\}'/, '')
      // Native command lines have a tap for every network, and a descriptor that nobody opened.
      .replace(/"type":"tap","fd":"\d+"/, '"type":"user"')
      // They leave out where the NIC is, too.
      .replace(/("netdev":"hostnet0"[^}]*"addr":)"[^"]*"/, `$1"${NIC_ADDRESS}"`)
      .replace(/("mem-path":)"[^"]*"/, `$1"${uvm.ramPath}"`)
      .replace(/(socket,id=charmonitor,path=)[^,\s]+/, `$1${monitorPath}`)
      // Where others listen already, the next one.
      .replace(/(-vnc [^,\s]*:\d+)/, '$1,to=99')
      .replace(/path=[^,\s]*\/channel\/[^,\s]*/, `path=${join(directory, 'agent')}`)
  );
}
