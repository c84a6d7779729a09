/** A µVM restored by QEMU alone, with the command line that libvirt would give it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { UvmTemplate } from '../../drivers/driver';
import { Monitor } from '../support/qemu-monitor';

const POLL_MS = 1;
const TIMEOUT_MS = 60_000;
/** The descriptor that QEMU finds the device state at: the first one after its standard ones. */
const STATE_FD = 3;

const statusSchema = z.object({ status: z.string() });

/** Milliseconds from the start of the process until the guest runs, and of that from a QEMU that listens to one whose guest runs. */
export interface BareRestore {
  readonly totalMs: number;
  readonly loadMs: number;
}

/**
 * Starts QEMU, has it load the state, runs the guest, and ends it.
 * @param command as `virsh domxml-to-native qemu-argv` prints it
 * @param directory for its sockets
 */
export async function restoreBare(
  command: string,
  uvm: UvmTemplate,
  directory: string,
): Promise<BareRestore> {
  const monitorPath = join(directory, 'monitor');
  const state = await open(uvm.statePath, 'r');
  try {
    const beganAt = performance.now();
    const qemu = spawn('/bin/sh', ['-c', `exec ${withoutLibvirt(command, uvm, directory, monitorPath)}`], {
      stdio: ['ignore', 'ignore', 'inherit', state.fd],
    });
    try {
      const monitor = await Monitor.connect(monitorPath);
      const connectedAt = performance.now();
      await load(monitor);
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

async function load(monitor: Monitor): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await monitor.command('migrate-set-capabilities', { capabilities });
  await monitor.command('migrate-incoming', { uri: `fd:${STATE_FD}` });
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
  return command
    .replaceAll('\\\n', ' ')
    .trim()
    .replace(/^(?:[A-Z_]+=\S+\s+)+/, '')
    .replace(/-object '\{"qom-type":"secret".*?\}'/, '')
    .replace(/("mem-path":)"[^"]*"/, `$1"${uvm.ramPath}"`)
    .replace(/(socket,id=charmonitor,path=)[^,\s]+/, `$1${monitorPath}`)
    .replace(/path=[^,\s]*channel\/target[^,\s]*/, `path=${join(directory, 'agent')}`);
}
