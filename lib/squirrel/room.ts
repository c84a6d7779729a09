/**
 * Keeps written-out µVMs within their budget and the host's disk from filling up: those that were used least recently
 * go first, one that a process has mapped or that was handed out a short while ago never.
 */
import { readdir, readFile, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { ownedPath } from '../durable';
import { NoRoom } from './errors';
import { MATERIALISED_NAMES, WRITTEN_NAME, type CacheLayout } from './layout';
import { uvmKeySchema } from './manifest';
import type { CacheLimits } from './options';

/** A boot has long mapped the RAM file, or failed, by then. */
const HANDED_OUT_MS = 15 * 60_000;

interface Written {
  readonly key: string;
  readonly path: string;
  readonly bytes: number;
  readonly usedAtMs: number;
  /** Of the RAM file. */
  readonly inode: number;
}

/** What the cache takes of the host's disk, and what it may. */
export interface CacheBudget {
  /** Of the compressed store that all µVMs share. */
  readonly storedBytes: number;
  /** Of written-out µVMs, and what they are kept within. */
  readonly materialisedBytes: number;
  readonly materialisedLimitBytes: number;
  /** Free in the cache's file system, and how much of that stays the host's. */
  readonly freeBytes: number;
  readonly reserveBytes: number;
}

/** The disk room of a cache. */
export class Room {
  constructor(
    private readonly layout: CacheLayout,
    private readonly limits: CacheLimits,
    private readonly logger: Logger,
  ) {}

  /**
   * Checks that this much can be written without taking what the host should be left with.
   * @throws NoRoom
   */
  async require(bytes: number, what: string): Promise<void> {
    const free = await this.freeBytes();
    if (free - bytes >= this.limits.reserveBytes) return;
    throw new NoRoom(
      `no room for ${what} in ${this.layout.directory}: ${megabytes(bytes)} wanted, ${megabytes(free)} free, ` +
        `of which ${megabytes(this.limits.reserveBytes)} are kept for the host`,
    );
  }

  /** Removes what was used least recently until a µVM of this many bytes fits; does what it can. */
  async makeFor(bytes: number): Promise<void> {
    const written = await this.written();
    let used = written.reduce((sum, one) => sum + one.bytes, 0);
    const tooMuch = async (): Promise<boolean> =>
      used + bytes > this.limits.materialisedBytes ||
      (await this.freeBytes()) - bytes < this.limits.reserveBytes;
    if (!(await tooMuch())) return;
    const mapped = await mappedInodes();
    if (mapped === undefined) {
      this.logger.warn('cannot tell which RAM files are in use: none is removed');
      return;
    }
    for (const { key, path, bytes: itsBytes, usedAtMs, inode } of written) {
      if (!(await tooMuch())) return;
      if (mapped.has(inode) || Date.now() - usedAtMs < HANDED_OUT_MS) continue;
      this.logger.info({ key, bytes: itsBytes }, 'written-out µVM removed to make room');
      const gone = await ownedPath(this.layout.materialised);
      await rename(path, gone).catch(ignoreMissing);
      await rm(gone, { recursive: true, force: true });
      used -= itsBytes;
    }
  }

  /** How much of the budget is used; the store itself is not this class's. */
  async used(): Promise<Omit<CacheBudget, 'storedBytes'>> {
    const [written, freeBytes] = await Promise.all([this.written(), this.freeBytes()]);
    return {
      materialisedBytes: written.reduce((sum, one) => sum + one.bytes, 0),
      materialisedLimitBytes: this.limits.materialisedBytes,
      freeBytes,
      reserveBytes: this.limits.reserveBytes,
    };
  }

  private async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.layout.materialised);
    return bavail * bsize;
  }

  /** What is written out, least recently used first. */
  private async written(): Promise<Written[]> {
    const found: Written[] = [];
    for (const key of await readdir(this.layout.materialised)) {
      if (!uvmKeySchema.safeParse(key).success) continue;
      const path = join(this.layout.materialised, key);
      try {
        const record = await stat(join(path, WRITTEN_NAME));
        const files = await Promise.all(
          Object.values(MATERIALISED_NAMES).map((name) => stat(join(path, name))),
        );
        const bytes = files.reduce((sum, file) => sum + file.blocks * 512, 0);
        const { ino } = await stat(join(path, MATERIALISED_NAMES.ram));
        found.push({ key, path, bytes, usedAtMs: record.mtimeMs, inode: ino });
      } catch (error) {
        ignoreMissing(error);
      }
    }
    return found.sort((a, b) => a.usedAtMs - b.usedAtMs);
  }
}

/**
 * Inodes that some process has mapped, whatever file system they are of: one too many does no harm. Undefined when a QEMU
 * does not let itself be looked at, as with a service that is not root.
 */
async function mappedInodes(): Promise<Set<number> | undefined> {
  const inodes = new Set<number>();
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const maps = await readFile(`/proc/${pid}/maps`, 'latin1');
      // 7f..-7f.. rw-p offset dev inode path
      for (const [, inode] of maps.matchAll(/^\S+ \S+ \S+ \S+ (\d+)/gm)) inodes.add(Number(inode));
    } catch {
      // Gone meanwhile, or not ours.
      const command = await readFile(`/proc/${pid}/comm`, 'latin1').catch(() => '');
      if (command.startsWith('qemu')) return undefined;
    }
  }
  return inodes;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`;
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}
