/**
 * Base images that nobody needs any more (nova/virt/libvirt/imagecache.py). One is needed while a disk lies over it, while
 * it is the image of a server or of a µVM, and for a while after its last use, which its modification time tells.
 */
import { createHash } from 'node:crypto';
import { readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../lib/log';
import { backingFileOf } from './backing-file';
import { isErrno } from './instance-store';

const BASE_NAME = /^[0-9a-f]{40}(_\w+)?$/;
/** A boot or a bake may be about to use an image that nothing shows to be in use yet. */
const LEAST_AGE_MS = 3_600_000;

/** Where to look and what to keep. */
export interface UnusedImagesQuery {
  /** `_base` */
  readonly baseDirectory: string;
  /** `instances_path`: the disks of servers are in its folders, those of resized ones, too. */
  readonly instancesDirectory: string;
  /** IDs of images that are needed although no disk may lie over them right now. */
  readonly imagesInUse: ReadonlySet<string>;
  readonly minimumAgeMs: number;
  readonly logger: Logger;
}

/** Name of an image's base file, as Nova's. */
export function baseNameOf(imageId: string): string {
  return createHash('sha1').update(imageId).digest('hex');
}

/** Removes them. @returns how many */
export async function removeUnusedImages(query: UnusedImagesQuery): Promise<number> {
  const { baseDirectory, logger } = query;
  const needed = new Set([...query.imagesInUse].map((id) => join(baseDirectory, baseNameOf(id))));
  for (const path of await backingFilesUnder(query.instancesDirectory)) needed.add(path);
  let removed = 0;
  for (const name of await readdir(baseDirectory)) {
    const path = join(baseDirectory, name);
    if (!BASE_NAME.test(name)) continue;
    if (needed.has(path)) {
      await markUsed(path);
      continue;
    }
    const ageMs = Date.now() - (await stat(path)).mtimeMs;
    if (ageMs < Math.max(query.minimumAgeMs, LEAST_AGE_MS)) continue;
    await rm(path, { force: true });
    logger.info({ file: path, unusedForMs: Math.round(ageMs) }, 'removed an unused base image');
    removed += 1;
  }
  return removed;
}

/** Notes that a base file is in use now. */
export async function markUsed(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now);
}

async function backingFilesUnder(instancesDirectory: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(instancesDirectory, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name === '_base') continue;
    const directory = join(instancesDirectory, entry.name);
    for (const file of await filesOf(directory)) {
      const backing = await backingFileOf(join(directory, file)).catch(ignoreGone);
      if (backing !== undefined) found.push(backing);
    }
  }
  return found;
}

async function filesOf(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(ignoreGone);
  return (entries ?? [])
    .filter((entry) => entry.isFile() && entry.name.startsWith('disk'))
    .map((e) => e.name);
}

/** A server may be deleted while we look. */
function ignoreGone(error: unknown): undefined {
  if (!isErrno(error, 'ENOENT')) throw error;
}
