/**
 * Finds and removes what no µVM needs: files that no manifest refers to, and pages in packs that are still needed for
 * others. The caller holds the cache's lock.
 */
import { readdir, rm, stat } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import type { Logger } from 'pino';
import { ownedPath, publish, syncDirectory, writeSynced } from '../durable';
import type { CacheLayout } from './layout';
import type { StoredUvm } from './live-pages';
import { serialiseManifest, UVM_FILES, type UvmManifest } from './manifest';
import type { PackFile } from './pack-format';
import { makePack } from './packing';
import type { Records } from './records';
import type { WorkerPool } from './worker-pool';

/** Where a µVM is stored, for the worker threads. */
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

  /** Removes packs, maps and quarantines of no manifest; does nothing while a manifest cannot be read. */
  async dropUnreferenced(): Promise<void> {
    const manifests = await this.manifests();
    if (manifests === undefined) return;
    const packs = new Set(manifests.flatMap((manifest) => manifest.packs));
    const maps = new Set(manifests.flatMap(({ files }) => UVM_FILES.map((file) => files[file].map)));
    for (const [directory, suffix, inUse] of [
      [this.layout.packs, '.pack', packs],
      [this.layout.maps, '.map', maps],
      [this.layout.quarantine, '.json', new Set(manifests.map((manifest) => manifest.key))],
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
    const stage = async (): Promise<string> => {
      const path = await ownedPath(this.layout.staging);
      staged.push(path);
      return path;
    };
    try {
      const uvms = manifests.map((manifest) => storedUvm(this.layout, manifest));
      const plan = await this.workers.run('planCompact', { uvms, packs: await this.packs() });
      if (plan === null) return false;
      const { victim, moved } = plan;
      const packPath = await stage();
      const newPack = (await makePack(this.workers, plan.newPack, packPath)).id;
      await publish(packPath, this.layout.pack(newPack));
      const renamed = new Map([[victim, newPack]]);
      for (const pack of plan.dependents) {
        const path = await stage();
        const { id } = await this.workers.run('rebase', { pack, victim, newPack, moved, path });
        await publish(path, this.layout.pack(id));
        renamed.set(pack.id, id);
      }
      for (const [position, manifest] of manifests.entries()) {
        const uvm = uvms[position];
        if (uvm !== undefined && manifest.packs.some((id) => renamed.has(id))) {
          await this.move(
            manifest,
            await this.workers.run('moveMaps', { uvm, victim, moved }),
            renamed,
            stage,
          );
        }
      }
      await this.dropUnreferenced();
      return true;
    } finally {
      for (const path of staged) await rm(path, { force: true });
    }
  }

  /** Replaces the maps of a µVM and then its manifest. */
  private async move(
    manifest: UvmManifest,
    maps: readonly Uint8Array[],
    renamed: ReadonlyMap<string, string>,
    stage: () => Promise<string>,
  ): Promise<void> {
    const files = { ...manifest.files };
    for (const [position, file] of UVM_FILES.entries()) {
      const content = maps[position] ?? new Uint8Array();
      files[file] = { ...files[file], map: createHash('sha256').update(content).digest('hex') };
      const path = await stage();
      await writeSynced(path, content);
      await publish(path, this.layout.map(files[file].map));
    }
    const packs = manifest.packs.map((id) => renamed.get(id) ?? id);
    const path = await stage();
    await writeSynced(path, serialiseManifest({ ...manifest, files, packs }));
    await publish(path, this.layout.manifest(manifest.key));
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
