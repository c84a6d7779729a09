/** The facts about this machine that checks look at; tests give others. */
import { access, constants, readdir, readFile, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';

/** A process of this machine. */
export interface MachineProcess {
  readonly pid: number;
  readonly startedAtMs: number;
}

/** Of a file system. */
export interface DiskSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** False where it is mounted read-only, as after an error of the disk. */
  readonly writable: boolean;
}

/** What is asked of the machine. Methods reject with the errors of `node:fs` for what is not there. */
export interface Machine {
  /** Effective user id. */
  uid(): number;
  readText(path: string): Promise<string>;
  /** Names in a directory; empty when there is none. */
  list(directory: string): Promise<readonly string[]>;
  /** Whether it is a file that can be executed, and when it last changed; null when there is none. */
  program(path: string): Promise<{ readonly executable: boolean; readonly changedAtMs: number } | null>;
  /** Where a program is found, as the service looks for it; null when it is not installed. */
  which(name: string): Promise<string | null>;
  /** Of the file system that a path is on, or that its nearest existing parent is on. */
  space(path: string): Promise<DiskSpace>;
  memory(): Promise<{ readonly totalMb: number; readonly availableMb: number }>;
  /** Running processes of any of these names. */
  processes(names: readonly string[]): Promise<readonly MachineProcess[]>;
}

/** USER_HZ, 100 on every Linux of x86-64. */
const TICKS_PER_S = 100;
const SYSTEM_PATH = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];

const missing = (error: unknown): boolean => {
  const { code } = z.looseObject({ code: z.string().optional() }).parse(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
};

/** @returns null for what is not there */
async function ifThere<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (missing(error)) return null;
    throw error;
  }
}

/** @param mode of `access(2)` */
function may(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}

const isExecutable = (path: string): Promise<boolean> => may(path, constants.X_OK);

/** This machine, by /proc and the file system. */
export const thisMachine: Machine = {
  uid: () => process.geteuid?.() ?? -1,
  readText: (path) => readFile(path, 'utf8'),
  list: async (directory) => (await ifThere(readdir(directory))) ?? [],
  program: async (path) => {
    const found = await ifThere(stat(path));
    if (found?.isFile() !== true) return null;
    return { executable: await isExecutable(path), changedAtMs: found.ctimeMs };
  },
  which: async (name) => {
    const path = [...SYSTEM_PATH, ...(process.env.PATH ?? '').split(':')];
    for (const directory of path) {
      const candidate = join(directory, name);
      if (directory.startsWith('/') && (await isExecutable(candidate))) return candidate;
    }
    return null;
  },
  space: async (path) => {
    for (let place = path; ; place = dirname(place)) {
      const found = await ifThere(statfs(place));
      if (found === null) continue;
      const writable = await may(place, constants.W_OK);
      return { freeBytes: found.bavail * found.bsize, totalBytes: found.blocks * found.bsize, writable };
    }
  },
  memory: async () => {
    const text = await readFile('/proc/meminfo', 'utf8');
    const mb = (name: string): number =>
      Math.floor(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN) / 1024);
    return { totalMb: mb('MemTotal'), availableMb: mb('MemAvailable') };
  },
  processes: async (names) => {
    const bootS = Number(/^btime (\d+)$/m.exec(await readFile('/proc/stat', 'utf8'))?.[1]);
    const found: MachineProcess[] = [];
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      // One that ends meanwhile was not there.
      const text = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
      const parts = /^\d+ \((?<name>.*)\) (?<rest>.*)$/s.exec(text)?.groups;
      if (parts?.name === undefined || !names.includes(parts.name)) continue;
      // The 22nd field of the line, the 20th after the name.
      const startedTicks = Number(parts.rest?.split(' ')[19]);
      found.push({ pid: Number(entry), startedAtMs: (bootS + startedTicks / TICKS_PER_S) * 1000 });
    }
    return found;
  },
};
