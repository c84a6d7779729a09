/** Writes a config drive: an ISO 9660 file system with the label that cloud-init looks for. */
import { mkdir, mkdtemp, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import type { ConfigDriveFile } from '../driver';
import { run } from './program';

const TIMEOUT_MS = 60_000;
/** More than any drive: what users can put on one is limited by Nova's API to a few hundred KiB. The file is sparse. */
const RESERVED_BYTES = 8 * 1024 * 1024;

/**
 * Makes the drive at `path` from `files`; the path appears once it is whole.
 * @throws RangeError for a file whose path would leave the drive
 */
export async function writeConfigDrive(
  path: string,
  files: readonly ConfigDriveFile[],
  signal?: AbortSignal,
): Promise<void> {
  await withImage(path, files, signal, (image) => rename(image, path));
}

/** Makes an empty file of the size that a drive may have, for a guest that is started before its drive can be written. */
export async function reserveConfigDrive(path: string): Promise<void> {
  const file = await open(path, 'w', 0o644);
  try {
    await file.truncate(RESERVED_BYTES);
  } finally {
    await file.close();
  }
}

/**
 * Writes a drive into the file that was reserved for it, whoever has it open.
 * @throws RangeError also for a drive that is larger than what is reserved
 */
export async function fillConfigDrive(
  path: string,
  files: readonly ConfigDriveFile[],
  signal?: AbortSignal,
): Promise<void> {
  await withImage(path, files, signal, async (image) => {
    const content = await readFile(image);
    if (content.length > RESERVED_BYTES) {
      throw new RangeError(`a config drive of ${content.length} bytes; ${RESERVED_BYTES} are the most`);
    }
    const file = await open(path, 'r+');
    try {
      await file.writeFile(content);
      // The guest's reads go past the page cache.
      await file.datasync();
    } finally {
      await file.close();
    }
  });
}

async function withImage(
  path: string,
  files: readonly ConfigDriveFile[],
  signal: AbortSignal | undefined,
  use: (image: string) => Promise<void>,
): Promise<void> {
  // Beside the target: passwords and keys stay in the server's own directory.
  const content = await mkdtemp(`${path}.`);
  const unfinished = join(content, '.iso');
  try {
    const tree = join(content, 'tree');
    for (const file of files) {
      const target = join(tree, insideDrive(file.path));
      await mkdir(dirname(target), { recursive: true });
      await writeFile(target, file.content);
    }
    const names = ['-ldots', '-allow-lowercase', '-allow-multidot', '-l', '-J', '-r'];
    const args = [
      '-o',
      unfinished,
      ...names,
      '-publisher',
      'OpenStack Nova',
      '-quiet',
      '-V',
      'config-2',
      tree,
    ];
    await run('genisoimage', args, { timeoutMs: TIMEOUT_MS, signal });
    await use(unfinished);
  } finally {
    await rm(content, { recursive: true, force: true });
  }
}

function insideDrive(path: string): string {
  const clean = normalize(path);
  if (path === '' || path.includes('\0') || clean.startsWith('/') || clean.split('/').includes('..')) {
    throw new RangeError(`${JSON.stringify(path)} is no path inside a config drive`);
  }
  return clean;
}
