/** A clone's root disk: a copy of what the baked boot wrote, over the image's base file. */
import { chmod, constants, copyFile } from 'node:fs/promises';
import type { BaseImage } from '../image-cache';
import { inspectOverlay } from '../image-inspector';
import { run } from '../program';

const TOOL_TIMEOUT_MS = 60_000;

/**
 * Makes the disk at `path`. The size stays the image's; it grows when the running guest's disk is resized.
 * @param deltaPath qcow2 from the cache
 * @throws ImageUnacceptable when it leads anywhere but to the image
 */
export async function makeRootDisk(
  path: string,
  deltaPath: string,
  base: BaseImage,
  signal: AbortSignal,
): Promise<void> {
  await copyFile(deltaPath, path, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
  await chmod(path, 0o644);
  // It may have come from another host, by way of a store that others write to.
  const { backingPath, backingFormat } = await inspectOverlay(path, deltaPath);
  // Saves a run of qemu-img when the cache and the server share a host.
  if (backingPath === base.path && backingFormat === base.format) return;
  const args = ['rebase', '-u', '-f', 'qcow2', '-b', base.path, '-F', base.format, path];
  await run('qemu-img', args, { timeoutMs: TOOL_TIMEOUT_MS, signal });
}
