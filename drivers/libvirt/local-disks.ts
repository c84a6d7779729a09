/** The disks of a server's flavor, made as files in its directory. */
import { open } from 'node:fs/promises';
import { FlavorDiskSmallerThanImage, FlavorMemoryTooSmall } from '../../lib/exceptions';
import type { FlavorSpec, ImageSpec } from '../driver';
import type { BaseImage } from './image-cache';
import type { InstancePaths } from './instance-store';
import { run, type RunOptions } from './program';

export const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
export const TOOL_TIMEOUT_MS = 60_000;

/**
 * Size of the root disk: what the flavor gives, or for a flavor of 0 GB the image's own.
 * @throws FlavorDiskSmallerThanImage, FlavorMemoryTooSmall
 */
export function rootSizeBytes(flavor: FlavorSpec, image: ImageSpec, base: BaseImage): number {
  if (flavor.memoryMb < image.minRamMb) {
    throw new FlavorMemoryTooSmall(
      `Flavor ${flavor.name} has ${flavor.memoryMb} MB of memory, image ${image.id} needs ${image.minRamMb} MB`,
    );
  }
  const offeredBytes = flavor.rootGb * GIB;
  const neededBytes = Math.max(base.virtualSizeBytes, image.minDiskGb * GIB);
  if (flavor.rootGb === 0) return base.virtualSizeBytes;
  if (offeredBytes < neededBytes) {
    throw new FlavorDiskSmallerThanImage(
      `Flavor's disk is too small for requested image. Flavor disk is ${offeredBytes} bytes, ` +
        `image is ${neededBytes} bytes.`,
    );
  }
  return offeredBytes;
}

/** Makes the root disk: an overlay that holds what the guest writes over `base`. */
export async function createOverlay(
  path: string,
  base: BaseImage,
  sizeBytes: number,
  signal: AbortSignal,
): Promise<void> {
  const args = ['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', base.format, path, String(sizeBytes)];
  await run('qemu-img', args, { timeoutMs: TOOL_TIMEOUT_MS, signal });
}

/** Makes the flavor's ephemeral and swap disks, formatted as Nova does; none for sizes of 0. */
export async function createExtraDisks(
  paths: InstancePaths,
  flavor: FlavorSpec,
  signal: AbortSignal,
): Promise<void> {
  const options = { timeoutMs: TOOL_TIMEOUT_MS, signal };
  if (flavor.ephemeralGb > 0) await createEphemeral(paths.ephemeral, flavor.ephemeralGb, options);
  if (flavor.swapMb > 0) await createSwap(paths.swap, flavor.swapMb, options);
}

/** Makes a formatted ephemeral disk. */
export async function createEphemeral(path: string, sizeGb: number, options: RunOptions): Promise<void> {
  await createSparse(path, sizeGb * GIB);
  await run('mkfs.ext4', ['-q', '-F', '-L', 'ephemeral0', path], options);
}

/** Makes a swap disk. */
export async function createSwap(path: string, sizeMb: number, options: RunOptions): Promise<void> {
  await createSparse(path, sizeMb * MIB);
  await run('mkswap', [path], options);
}

/** The disks that `createExtraDisks` makes, in the order of their names in the guest. */
export function extraDisks(
  { ephemeral, swap }: InstancePaths,
  { ephemeralGb, swapMb }: FlavorSpec,
): { readonly path: string; readonly sizeBytes: number }[] {
  return [
    { path: ephemeral, sizeBytes: ephemeralGb * GIB },
    { path: swap, sizeBytes: swapMb * MIB },
  ].filter(({ sizeBytes }) => sizeBytes > 0);
}

async function createSparse(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o644);
  await file.truncate(sizeBytes).finally(() => file.close());
}
