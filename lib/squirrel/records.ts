/** The small files that say which µVMs there are: manifests, and quarantine records beside them. */
import { readFile, readdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { z } from 'zod';
import { ownedPath, publish, writeSynced } from '../durable';
import { DamagedFile } from './errors';
import type { CacheLayout } from './layout';
import { parseManifest, uvmKeySchema, type UvmManifest } from './manifest';

const quarantineSchema = z.object({
  reason: z.string(),
  since: z.iso.datetime(),
  /** Which bake of the µVM this is about. */
  bakedAt: z.string(),
});
/** Why a µVM is not offered. */
export type Quarantine = z.infer<typeof quarantineSchema>;

/** Reads afresh every time: other processes change the cache, too. */
export class Records {
  constructor(private readonly layout: CacheLayout) {}

  /** Keys of all manifests, readable or not. */
  async keys(): Promise<string[]> {
    const names = await readdir(this.layout.uvms);
    const keys = names.map((name) => basename(name, '.json'));
    return keys.filter((key) => uvmKeySchema.safeParse(key).success).sort();
  }

  /** The manifest of a key, if there is one; rejects with DamagedFile or UnsupportedFormat when it cannot be read. */
  async manifest(key: string): Promise<UvmManifest | undefined> {
    const path = this.layout.manifest(uvmKeySchema.parse(key));
    const text = await readIfThere(path);
    if (text === undefined) return undefined;
    const manifest = parseManifest(text, path);
    if (manifest.key !== key) throw new DamagedFile(path, `is the manifest of ${manifest.key}`);
    return manifest;
  }

  /** The quarantine of this very bake; one of an earlier bake of the same key does not count. */
  async quarantine(manifest: UvmManifest): Promise<Quarantine | undefined> {
    const path = this.layout.quarantined(manifest.key);
    const text = await readIfThere(path);
    if (text === undefined) return undefined;
    let record: Quarantine;
    try {
      record = quarantineSchema.parse(JSON.parse(text));
    } catch (error) {
      throw new DamagedFile(path, 'not a quarantine record', { cause: error });
    }
    return record.bakedAt === manifest.bakedAt ? record : undefined;
  }

  /** Needs no lock: one file appears, and it names the bake that it speaks of. */
  async writeQuarantine({ key, bakedAt }: UvmManifest, reason: string): Promise<void> {
    const path = await ownedPath(this.layout.staging);
    const record: Quarantine = { reason, since: new Date().toISOString(), bakedAt };
    await writeSynced(path, JSON.stringify(record));
    await publish(path, this.layout.quarantined(key));
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
