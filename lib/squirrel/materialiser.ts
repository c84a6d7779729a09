/**
 * Writes µVMs out for clones to map: sparse, read-only, every page checked on the way.
 *
 * What was written is trusted until the host reboots and is therefore not synced: a power cut takes it away by its boot
 * id. Concurrent requests for one µVM share the work; another process that was faster is fine, too.
 */
import {
  chmod,
  mkdir,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ownedPath, ownerIsAlive } from '../durable';
import { MATERIALISED_NAMES, WRITTEN_NAME, type CacheLayout } from './layout';
import { UVM_FILES, uvmKeySchema, type UvmFileName, type UvmManifest } from './manifest';
import { storedUvm } from './collector';
import { PAGE_BYTES } from './page-map';
import { shareWork, type StoredFileTask, type WriteTask } from './restore';
import type { Room } from './room';
import type { WorkerPool } from './worker-pool';

/** Files in use stay in memory, unless it is very short. */
const COLD_AFTER_MS = 600_000;
const writtenSchema = z.object({ bootId: z.string(), bakedAt: z.string() });

/** Paths of a µVM that was written out. */
export type WrittenFiles = Readonly<Record<UvmFileName, string>>;

/** The materialised µVMs of a cache. */
export class Materialiser {
  private readonly inHand = new Map<string, Promise<WrittenFiles>>();

  constructor(
    private readonly layout: CacheLayout,
    private readonly workers: WorkerPool,
    private readonly room: Room,
  ) {}

  /** Removes what is left from before a reboot, and what crashed writers left. */
  async tidy(): Promise<void> {
    const bootId = await currentBootId();
    for (const name of await readdir(this.layout.materialised)) {
      const path = join(this.layout.materialised, name);
      const stale = uvmKeySchema.safeParse(name).success
        ? (await writtenInBoot(path)) !== bootId
        : !(await ownerIsAlive(name));
      if (stale) await rm(path, { recursive: true, force: true });
    }
  }

  /** The files of a µVM, written now if they are not there. Rejects with DamagedFile when its pages are not sound. */
  async files(manifest: UvmManifest): Promise<WrittenFiles> {
    const running = this.inHand.get(manifest.key);
    if (running !== undefined) return await running;
    const work = this.ensure(manifest).finally(() => this.inHand.delete(manifest.key));
    this.inHand.set(manifest.key, work);
    return await work;
  }

  /** Forgets the written files of a µVM; guests that have them open keep them. */
  async remove(key: string): Promise<void> {
    const path = this.layout.written(key);
    const gone = await ownedPath(this.layout.materialised);
    try {
      await rename(path, gone);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    await rm(gone, { recursive: true, force: true });
  }

  /** Reads written files back and compares them with the store; nothing written is fine. Returns problems. */
  async compare(manifest: UvmManifest): Promise<string[]> {
    // Those of an earlier bake under this key are still there when a process died before it removed them; nobody uses them.
    if ((await readWritten(this.layout.written(manifest.key)))?.bakedAt !== manifest.bakedAt) return [];
    const problems: string[] = [];
    for (const file of UVM_FILES) {
      try {
        const path = this.layout.writtenFile(manifest.key, file);
        await this.workers.run('compare', { ...this.stored(manifest, file), path });
      } catch (error) {
        problems.push(error instanceof Error ? error.message : String(error));
      }
    }
    return problems;
  }

  /** Where a file of a µVM is stored. */
  stored(manifest: UvmManifest, file: UvmFileName): StoredFileTask {
    const { map, sizeBytes } = manifest.files[file];
    return {
      map: { path: this.layout.map(map), digest: map, sizeBytes },
      packs: manifest.packs.map((id) => ({ id, path: this.layout.pack(id) })),
      imagePath: this.layout.image(manifest.image.id),
    };
  }

  private async ensure(manifest: UvmManifest): Promise<WrittenFiles> {
    const directory = this.layout.written(manifest.key);
    if (await this.isWritten(manifest)) {
      await this.noteUse(manifest.key);
    } else {
      await this.remove(manifest.key);
      const bytes = UVM_FILES.reduce((sum, file) => sum + manifest.files[file].pages * PAGE_BYTES, 0);
      await this.room.makeFor(bytes);
      await this.room.require(bytes, 'a µVM that is written out');
      const temporary = await ownedPath(this.layout.materialised);
      try {
        await this.write(manifest, temporary);
        await rename(temporary, directory);
      } catch (error) {
        await rm(temporary, { recursive: true, force: true });
        // Another process may have put the same files there meanwhile.
        if (!(isOccupied(error) && (await this.isWritten(manifest)))) throw error;
      }
    }
    return {
      ram: join(directory, MATERIALISED_NAMES.ram),
      disk: join(directory, MATERIALISED_NAMES.disk),
      state: join(directory, MATERIALISED_NAMES.state),
    };
  }

  /**
   * Files that nobody has used for a while may have left memory: they are brought back while the guest is being started.
   * Another process may just have removed them to make room; then the boot finds out.
   */
  private async noteUse(key: string): Promise<void> {
    const record = join(this.layout.written(key), WRITTEN_NAME);
    const now = new Date();
    try {
      const { mtimeMs } = await stat(record);
      await utimes(record, now, now);
      if (now.getTime() - mtimeMs < COLD_AFTER_MS) return;
    } catch {
      return;
    }
    const paths = UVM_FILES.map((file) => this.layout.writtenFile(key, file));
    // Without it the boot takes its time, and that is all.
    this.workers.run('readAhead', { paths }).catch(() => undefined);
  }

  /** Whether the files are there, of this boot and of this very manifest (a µVM can be baked anew under its key). */
  private async isWritten(manifest: UvmManifest): Promise<boolean> {
    const record = await readWritten(this.layout.written(manifest.key));
    if (record?.bootId !== (await currentBootId())) return false;
    if (record.bakedAt !== manifest.bakedAt) return false;
    for (const file of UVM_FILES) {
      const path = this.layout.writtenFile(manifest.key, file);
      const size = await stat(path).then(
        (found) => found.size,
        () => -1,
      );
      if (size !== manifest.files[file].sizeBytes) return false;
    }
    return true;
  }

  /** Has all threads that are free work off a plan; those that are not find nothing left to do. */
  private async writeOut(task: Omit<WriteTask, 'shared'>): Promise<void> {
    const shared = shareWork(task.plan);
    const lanes = Array.from({ length: this.workers.size }, () =>
      this.workers.run('writeOut', { ...task, shared }),
    );
    try {
      await new Promise<void>((resolve, reject) => {
        for (const lane of lanes) {
          lane.then(({ finished }) => {
            if (finished) resolve();
          }, reject);
        }
      });
    } catch (error) {
      // Nobody still writes when this rejects.
      await Promise.allSettled(lanes);
      throw error;
    }
  }

  private async write(manifest: UvmManifest, directory: string): Promise<void> {
    await mkdir(directory, { mode: 0o755 });
    const paths = UVM_FILES.map((file) => join(directory, MATERIALISED_NAMES[file]));
    for (const path of paths) await writeFile(path, '', { flag: 'wx', mode: 0o644 });
    const plan = await this.workers.run('planRestore', storedUvm(this.layout, manifest));
    const imagePath = this.layout.image(manifest.image.id);
    await this.writeOut({ plan, paths, imagePath });
    for (const file of UVM_FILES) {
      const path = join(directory, MATERIALISED_NAMES[file]);
      // Adds zero pages at the end, and cuts off what the last page has beyond the end of the file.
      await truncate(path, manifest.files[file].sizeBytes);
      await chmod(path, 0o444);
    }
    const record = { bootId: await currentBootId(), bakedAt: manifest.bakedAt };
    await writeFile(join(directory, WRITTEN_NAME), JSON.stringify(record));
  }
}

function isOccupied(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOTEMPTY' || code === 'EEXIST';
}

async function currentBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

async function readWritten(directory: string): Promise<z.infer<typeof writtenSchema> | undefined> {
  try {
    return writtenSchema.parse(JSON.parse(await readFile(join(directory, WRITTEN_NAME), 'utf8')));
  } catch {
    return undefined;
  }
}

async function writtenInBoot(directory: string): Promise<string | undefined> {
  return (await readWritten(directory))?.bootId;
}
