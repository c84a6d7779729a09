/**
 * Finds and removes what no µVM needs: files that no manifest refers to, and pages in packs that are still needed for
 * others. The caller holds the cache's lock.
 */
import { readdir, rm, stat } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import type { Logger } from 'pino';
import { ownedPath, publish, syncDirectory, writeSynced } from './durable';
import type { CacheLayout } from './layout';
import type { StoredUvm } from './live-pages';
import { serialiseManifest, UVM_FILES, type UvmManifest } from './manifest';
import type { PackFile } from './pack-format';
import type { Records } from './records';
import type { WorkerPool } from './worker-pool';

/** Where the pages of a µVM are, for the worker threads. */
export function storedUvm(layout: CacheLayout, manifest: UvmManifest): StoredUvm {
  return {
    packs: manifest.packs.map((id) => ({ id, path: layout.pack(id) })),
    maps: UVM_FILES.map((file) => {
      const { map, sizeBytes } = manifest.files[file];
      return { path: layout.map(map), digest: map, sizeBytes };
    }),
  };
}

/** The packs and maps of a cache, as things that may be no longer needed. */
export class Collector {
  constructor(
    private readonly layout: CacheLayout,
    private readonly records: Records,
    private readonly workers: WorkerPool,
    private readonly logger: Logger,
  ) {}

  /** All packs, needed or not. */
  async packs(): Promise<PackFile[]> {
    const names = (await readdir(this.layout.packs)).filter((name) => name.endsWith('.pack'));
    return names.map((name) => ({ id: basename(name, '.pack'), path: join(this.layout.packs, name) }));
  }

  /** Bytes of all packs and maps. */
  async storedBytes(): Promise<number> {
    let bytes = 0;
    for (const directory of [this.layout.packs, this.layout.maps]) {
      for (const name of await readdir(directory)) bytes += (await stat(join(directory, name))).size;
    }
    return bytes;
  }

  /** Removes packs and maps that no manifest refers to; does nothing while a manifest cannot be read. */
  async dropUnreferenced(): Promise<void> {
    const manifests = await this.manifests();
    if (manifests === undefined) return;
    const packs = new Set(manifests.flatMap((manifest) => manifest.packs));
    const maps = new Set(manifests.flatMap(({ files }) => UVM_FILES.map((file) => files[file].map)));
    for (const [directory, suffix, inUse] of [
      [this.layout.packs, '.pack', packs],
      [this.layout.maps, '.map', maps],
    ] as const) {
      for (const name of await readdir(directory)) {
        if (!inUse.has(basename(name, suffix))) await rm(join(directory, name), { force: true });
      }
      await syncDirectory(directory);
    }
  }

  /** Writes wasteful packs anew; returns how many. Before and after each manifest's replacement its µVM is whole. */
  async compact(): Promise<number> {
    let count = 0;
    while (await this.compactOne()) count += 1;
    return count;
  }

  private async compactOne(): Promise<boolean> {
    const manifests = await this.manifests();
    if (manifests === undefined) return false;
    const staged: string[] = [];
    const write = async (content: string | Uint8Array, to: string): Promise<void> => {
      const path = await ownedPath(this.layout.staging);
      staged.push(path);
      await writeSynced(path, content);
      await publish(path, to);
    };
    const packPath = await ownedPath(this.layout.staging);
    staged.push(packPath);
    try {
      const uvms = manifests.map((manifest) => storedUvm(this.layout, manifest));
      const compacted = await this.workers.run('compact', { uvms, packs: await this.packs(), packPath });
      if (compacted === null) return false;
      await publish(packPath, this.layout.pack(compacted.newPack));
      for (const { uvm, maps, packIds } of compacted.uvms) {
        const manifest = manifests[uvm];
        if (manifest === undefined) continue;
        const files = { ...manifest.files };
        for (const [position, file] of UVM_FILES.entries()) {
          const content = maps[position] ?? new Uint8Array();
          files[file] = { ...files[file], map: createHash('sha256').update(content).digest('hex') };
          await write(content, this.layout.map(files[file].map));
        }
        const moved = { ...manifest, files, packs: [...packIds] };
        await write(serialiseManifest(moved), this.layout.manifest(manifest.key));
      }
      await this.dropUnreferenced();
      return true;
    } finally {
      for (const path of staged) await rm(path, { force: true });
    }
  }

  /** All manifests, or undefined when one cannot be read: what it needs is not known then. */
  private async manifests(): Promise<UvmManifest[] | undefined> {
    const manifests: UvmManifest[] = [];
    for (const key of await this.records.keys()) {
      try {
        const manifest = await this.records.manifest(key);
        if (manifest !== undefined) manifests.push(manifest);
      } catch (error) {
        this.logger.warn({ key, err: error }, 'unreadable manifest: nothing is cleaned up');
        return undefined;
      }
    }
    return manifests;
  }
}
