/**
 * What others make of the files of µVMs: archivers that deduplicate, compressors, a compressing file system. Each can give
 * back one µVM without reading the others. Archivers cut files as they do by themselves: chunks of a page find more that is
 * the same, but compress worse, and came out larger.
 */
import { execFile } from 'node:child_process';
import { mkdir, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BakedSet } from './corpus';

const run = promisify(execFile);
const TIMEOUT_MS = 600_000;
const BTRFS_BYTES = 16 * 1024 ** 3;
const PACKAGES = 'restic borgbackup casync zstd lz4 btrfs-progs btrfs-compsize';

/** A store of someone else's, in a directory of its own. */
export interface Peer {
  /** The program and what it was told. */
  readonly name: string;
  /** Whether it finds what files have in common: what the cache is to be compared with. */
  readonly deduplicates: boolean;
  /** Takes in the files of a µVM. */
  add(set: BakedSet): Promise<void>;
  /** What it takes up now. */
  bytes(): Promise<number>;
  close(): Promise<void>;
}

type Opener = (directory: string) => Promise<Peer>;

/** Opens all of them, empty. @throws Error that names the program which is not installed */
export async function openPeers(directory: string): Promise<Peer[]> {
  const peers: Peer[] = [];
  try {
    for (const [name, open] of Object.entries(OPENERS)) {
      const place = join(directory, name);
      await mkdir(place, { recursive: true });
      peers.push(await open(place));
    }
    return peers;
  } catch (error) {
    for (const peer of peers) await peer.close();
    throw error;
  }
}

const OPENERS: Readonly<Record<string, Opener>> = {
  restic: async (directory) => {
    const repository = join(directory, 'repository');
    const env = { RESTIC_PASSWORD: 'bench' };
    const options = ['--quiet', '--no-cache', '--repo', repository];
    await tool('restic', [...options, 'init', '--repository-version', '2'], env);
    return peer('restic, --compression max', true, repository, async ({ files }) => {
      await tool('restic', [...options, '--compression', 'max', 'backup', ...Object.values(files)], env);
    });
  },
  borg: async (directory) => {
    const repository = join(directory, 'repository');
    const env = { BORG_BASE_DIR: join(directory, 'base'), BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes' };
    await tool('borg', ['init', '--encryption', 'none', repository], env);
    const options = ['create', '--compression', 'zstd,3'];
    return peer('borg, --compression zstd,3', true, repository, async ({ name, files }) => {
      await tool('borg', [...options, `${repository}::${name}`, ...Object.values(files)], env);
    });
  },
  casync: (directory) => {
    const options = ['make', '--compression=zstd', `--store=${join(directory, 'store.castr')}`];
    return Promise.resolve(
      peer('casync, --compression=zstd', true, directory, async ({ name, files }) => {
        for (const [file, path] of Object.entries(files)) {
          await tool('casync', [...options, join(directory, `${name}-${file}.caibx`), path]);
        }
      }),
    );
  },
  lz4: (directory) => Promise.resolve(compressor('lz4', ['-1'], [], directory)),
  zstd: (directory) => Promise.resolve(compressor('zstd', ['-3', '--long'], ['-o'], directory)),
  btrfs: openBtrfs,
};

/** One file for each; `output` is what comes before its name. */
function compressor(
  program: string,
  options: readonly string[],
  output: readonly string[],
  directory: string,
): Peer {
  return peer([program, ...options].join(' '), false, directory, async ({ name, files }) => {
    for (const [file, path] of Object.entries(files)) {
      await tool(program, ['-q', '-f', ...options, path, ...output, join(directory, `${name}-${file}`)]);
    }
  });
}

/** A file system in a file, which compresses whatever is written to it; mounted only while it is at work. */
async function openBtrfs(directory: string): Promise<Peer> {
  const device = join(directory, 'device');
  const mount = join(directory, 'mount');
  await mkdir(mount);
  await writeFile(device, '');
  await truncate(device, BTRFS_BYTES);
  await tool('mkfs.btrfs', ['-q', device]);
  let bytes = 0;
  return {
    name: 'btrfs, compress-force=zstd:3',
    deduplicates: false,
    add: async ({ name, files }) => {
      await tool('mount', ['-t', 'btrfs', '-o', 'loop,compress-force=zstd:3', device, mount]);
      try {
        for (const [file, path] of Object.entries(files)) {
          await tool('cp', ['--sparse=always', path, join(mount, `${name}-${file}`)]);
        }
        await tool('sync', ['-f', mount]);
        const total = /^TOTAL\s+\d+%\s+(\d+)/m.exec(await tool('compsize', ['-b', mount]));
        if (total === null) throw new Error('compsize says no total');
        bytes = Number(total[1]);
      } finally {
        await tool('umount', [mount]);
      }
    },
    bytes: () => Promise.resolve(bytes),
    close: async () => await rm(device, { force: true }),
  };
}

function peer(name: string, deduplicates: boolean, directory: string, add: Peer['add']): Peer {
  const close = async (): Promise<void> => await rm(directory, { recursive: true, force: true });
  return { name, deduplicates, add, bytes: async () => await sizeOf(directory), close };
}
/** Bytes of all files below a directory. */
export async function sizeOf(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}

async function tool(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  try {
    const { stdout } = await run(program, args, { timeout: TIMEOUT_MS, env: { ...process.env, ...env } });
    return stdout;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new Error(`${program} is not installed: apt-get install ${PACKAGES}`, { cause: error });
    }
    throw error;
  }
}
