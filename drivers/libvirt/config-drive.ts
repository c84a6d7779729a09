/** Writes a config drive: an ISO 9660 file system with the label that cloud-init looks for. */
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import type { ConfigDriveFile } from '../driver';
import { run } from './program';

const TIMEOUT_MS = 60_000;

/**
 * Makes the drive at `path` from `files`; the path appears once it is whole.
 * @throws RangeError for a file whose path would leave the drive
 */
export async function writeConfigDrive(
  path: string,
  files: readonly ConfigDriveFile[],
  signal?: AbortSignal,
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
    await rename(unfinished, path);
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
