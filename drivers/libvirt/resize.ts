/**
 * The disks of a server that gets another flavor on its own host (nova/virt/libvirt/driver.py: migrate_disk_and_power_off,
 * finish_migration, confirm_migration). The old ones are set aside whole until the new size is confirmed, so that going
 * back is renaming a directory, whatever became of the copy.
 */
import { open, rm } from 'node:fs/promises';
import { z } from 'zod';
import type { FlavorSpec } from '../driver';
import { exists, type InstancePaths, type InstanceStore } from './instance-store';
import { createEphemeral, createSwap, GIB, TOOL_TIMEOUT_MS } from './local-disks';
import { run } from './program';
import { saveVtpmState } from './vtpm';

const COPY_TIMEOUT_MS = 2 * 60 * 60_000;

/** Sets a stopped server's files aside and gives it copies of its disks; what fails leaves it as it was. */
export async function setDisksAside(
  instances: InstanceStore,
  uuid: string,
  signal: AbortSignal,
): Promise<void> {
  const { aside, fresh } = await instances.setAside(uuid);
  try {
    // The swap disk is made anew: nothing in it outlives a boot.
    for (const disk of ['disk', 'ephemeral', 'configDrive'] as const) {
      if (!(await exists(aside[disk]))) continue;
      const args = ['--reflink=auto', '--sparse=always', aside[disk], fresh[disk]];
      await run('cp', args, { timeoutMs: COPY_TIMEOUT_MS, signal });
    }
    await saveVtpmState(uuid, aside.directory);
  } catch (error) {
    await instances.putBack(uuid);
    throw error;
  }
}

/** Gives a server's disks the sizes of its new flavor; no disk gets smaller. */
export async function growDisks(paths: InstancePaths, flavor: FlavorSpec): Promise<void> {
  const options = { timeoutMs: TOOL_TIMEOUT_MS };
  const rootBytes = flavor.rootGb * GIB;
  if (rootBytes > (await virtualSizeBytes(paths.disk))) {
    await run('qemu-img', ['resize', '-q', '-f', 'qcow2', paths.disk, String(rootBytes)], options);
  }
  if (flavor.ephemeralGb > 0) {
    if (await exists(paths.ephemeral)) await growFile(paths.ephemeral, flavor.ephemeralGb * GIB);
    else await createEphemeral(paths.ephemeral, flavor.ephemeralGb, options);
  }
  await rm(paths.swap, { force: true });
  if (flavor.swapMb > 0) await createSwap(paths.swap, flavor.swapMb, options);
}

const infoSchema = z.object({ 'virtual-size': z.number() });

async function virtualSizeBytes(path: string): Promise<number> {
  const text = await run('qemu-img', ['info', '--output=json', path], { timeoutMs: TOOL_TIMEOUT_MS });
  return infoSchema.parse(JSON.parse(text))['virtual-size'];
}

async function growFile(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const { size } = await file.stat();
    if (size < sizeBytes) await file.truncate(sizeBytes);
  } finally {
    await file.close();
  }
}
