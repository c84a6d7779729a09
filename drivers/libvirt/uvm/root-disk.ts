/** A clone's root disk: a copy of what the baked boot wrote, over the image's base file. */
import { constants, copyFile, open, chmod } from 'node:fs/promises';
import type { BaseImage } from '../image-cache';
import { run } from '../program';

const TOOL_TIMEOUT_MS = 60_000;
const QCOW2_MAGIC = 0x514649fb;
const HEADER_BYTES = 20;
const MAX_NAME_BYTES = 1023;

/**
 * Makes the disk at `path`. The size stays the image's; it grows when the running guest's disk is resized.
 * @param deltaPath qcow2 from the cache
 */
export async function makeRootDisk(
  path: string,
  deltaPath: string,
  base: BaseImage,
  signal: AbortSignal,
): Promise<void> {
  await copyFile(deltaPath, path, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
  await chmod(path, 0o644);
  if ((await backingFileOf(path)) === base.path) return;
  const args = ['rebase', '-u', '-f', 'qcow2', '-b', base.path, '-F', base.format, path];
  await run('qemu-img', args, { timeoutMs: TOOL_TIMEOUT_MS, signal });
}

/** Name of the backing file in a qcow2 header; saves a run of qemu-img when the cache and the server share a host. */
async function backingFileOf(path: string): Promise<string | undefined> {
  const file = await open(path, 'r');
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    await file.read(header, 0, HEADER_BYTES, 0);
    if (header.readUInt32BE(0) !== QCOW2_MAGIC) return undefined;
    const length = header.readUInt32BE(16);
    if (length === 0 || length > MAX_NAME_BYTES) return undefined;
    const name = Buffer.alloc(length);
    await file.read(name, 0, length, Number(header.readBigUInt64BE(8)));
    return name.toString('utf8');
  } finally {
    await file.close();
  }
}
