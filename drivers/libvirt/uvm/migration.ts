/**
 * Device state in and out of a guest, without its RAM: QEMU's migration with `x-ignore-shared`, through libvirt's monitor
 * passthrough and a file descriptor (libvirt's sandbox forbids QEMU to start programs or open files by itself).
 */
import { open } from 'node:fs/promises';
import { z } from 'zod';
import type { Domain } from '../domain';
import { until } from './until';

const FD_NAME = 'prebake';
const STATE_TIMEOUT_MS = 60_000;

const migrationSchema = z.object({
  status: z.string().optional(),
  'error-desc': z.string().optional(),
});
const statusSchema = z.object({ status: z.string() });

/** From this version of QEMU on, `fd:` is for pipes and sockets alone, and `file:` takes a descriptor in a set. */
const FIRST_WITH_FILES = 9;
/** From this version on, disks of a guest with loaded state are nobody's until it runs, and cannot be resized. */
const FIRST_WITH_INACTIVE_DISKS = 10;
/** Far from those that libvirt counts up from 0. */
const FD_SET = 0x7072;

/** QEMU could not write or load device state; the message is QEMU's. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

/** Writes the device state of a paused guest to a new file. */
export async function writeDeviceState(
  domain: Domain,
  path: string,
  qemuMajorVersion: number,
  signal: AbortSignal,
): Promise<void> {
  await ignoreShared(domain, true);
  const file = await open(path, 'wx', 0o600);
  try {
    const uri = await handOver(domain, file.fd, qemuMajorVersion);
    await domain.monitor('migrate', { uri });
    await until('device state to be written', STATE_TIMEOUT_MS, signal, async () => {
      const migration = migrationSchema.parse(await domain.monitor('query-migrate'));
      if (migration.status === 'failed' || migration.status === 'cancelled') {
        throw new MigrationError(
          `device state was not written: ${migration['error-desc'] ?? 'no reason given'}`,
        );
      }
      return migration.status === 'completed';
    });
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Loads device state into a guest that was started to wait for it; leaves it paused. */
export async function loadDeviceState(
  domain: Domain,
  path: string,
  qemuMajorVersion: number,
  signal: AbortSignal,
): Promise<void> {
  await ignoreShared(domain, true);
  const file = await open(path, 'r');
  let uri: string;
  try {
    uri = await handOver(domain, file.fd, qemuMajorVersion);
  } finally {
    await file.close();
  }
  try {
    await load(domain, uri, signal);
  } catch (error) {
    signal.throwIfAborted();
    // Mostly QEMU says why in its log and ends, and all that is left to see here is a domain that went away.
    throw new MigrationError('QEMU did not load the device state (its log under libvirt says why)', {
      cause: error,
    });
  }
}

/** Has a guest that was loaded, and does not run yet, own its disks, so that they can be resized. */
export async function activateDisks(domain: Domain, qemuMajorVersion: number): Promise<void> {
  if (qemuMajorVersion >= FIRST_WITH_INACTIVE_DISKS)
    await domain.monitor('blockdev-set-active', { active: true });
}

/**
 * Switches off again what loading switched on (`x-ignore-shared`): left on, a later save of the guest would seem to work and
 * lose its memory.
 */
export async function makeSavable(domain: Domain): Promise<void> {
  await ignoreShared(domain, false);
}

/** Gives QEMU an open file, and returns what it calls it. */
async function handOver(domain: Domain, fd: number, qemuMajorVersion: number): Promise<string> {
  if (qemuMajorVersion < FIRST_WITH_FILES) {
    await domain.monitorWithFd('getfd', { fdname: FD_NAME }, fd);
    return `fd:${FD_NAME}`;
  }
  await domain.monitorWithFd('add-fd', { 'fdset-id': FD_SET }, fd);
  return `file:/dev/fdset/${FD_SET}`;
}

async function load(domain: Domain, uri: string, signal: AbortSignal): Promise<void> {
  await domain.monitor('migrate-incoming', { uri });
  await until('device state to be loaded', STATE_TIMEOUT_MS, signal, async () => {
    const { status } = statusSchema.parse(await domain.monitor('query-status'));
    return status !== 'inmigrate';
  });
}

async function ignoreShared(domain: Domain, state: boolean): Promise<void> {
  await domain.monitor('migrate-set-capabilities', {
    capabilities: [{ capability: 'x-ignore-shared', state }],
  });
}
