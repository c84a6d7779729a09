/**
 * The cache of µVMs of one host: add, find, materialise, quarantine, remove, verify.
 *
 * A µVM exists exactly when its manifest does. It is written last, after everything it refers to is durable, and removed
 * first; whatever no manifest refers to is a leftover and goes at the next opportunity. Several processes may use one
 * cache: changes are made under a lock, reads need none.
 */
import { access, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { UvmTemplate } from '../../drivers/driver';
import { Collector, storedUvm } from './collector';
import { ownedPath, ownerIsAlive, publish, removeDurably, writeSynced } from '../durable';
import { CacheBusy, DamagedFile, ImageMissing, UnknownUvm } from './errors';
import { CacheLayout } from './layout';
import { withLock } from './lock';
import {
  isOldFormat,
  serialiseManifest,
  UVM_FILES,
  uvmKeySchema,
  type UvmDescription,
  type UvmFileName,
  type UvmManifest,
} from './manifest';
import { Intake, type Parcel, type ParcelFile } from './hoard-intake';
import { Materialiser } from './materialiser';
import type { CacheLimits, SquirrelOptions } from './options';
import { Records } from './records';
import { Room, type CacheBudget } from './room';
import { WorkerPool } from './worker-pool';
import { makePack } from './packing';
import type { StorePlan } from './store';
import type { FileUsage } from './usage';

/** A µVM that was just baked: its description and its files, which the cache copies from. */
export interface UvmDraft {
  readonly description: UvmDescription;
  readonly files: Readonly<Record<UvmFileName, string>>;
}

/** One line of the cache's list. */
export type CacheEntry =
  | { readonly state: 'ok'; readonly key: string; readonly manifest: UvmManifest }
  | {
      readonly state: 'quarantined';
      readonly key: string;
      readonly manifest: UvmManifest;
      readonly reason: string;
      readonly since: string;
    }
  | { readonly state: 'unreadable'; readonly key: string; readonly reason: string };

/** What a verification found; `problems` name the files. */
export interface VerifyReport {
  readonly key: string;
  /** Pages that were read and checked. */
  readonly pages: number;
  readonly problems: readonly string[];
}

/** What `gc` did. */
export interface GcReport {
  /** Bytes of the store itself; written-out files are not part of it. */
  readonly storedBytes: number;
  readonly freedBytes: number;
  /** Packs that were written anew without what nobody needed. */
  readonly rewrittenPacks: number;
}

/** Where the bytes of each file of a µVM are. */
export type UvmUsage = Readonly<Record<UvmFileName, FileUsage>>;

/** Why a µVM is not offered between its bake and its proof. */
const NOT_PROVEN = 'it has not been proven by a test clone';
/** Of the time that storing a µVM takes: the rest is compressing. */
const PLAN_SHARE = 0.2;
/** Another process that stores a µVM holds the lock for seconds. */
const LOCK_WAIT_MS = 120_000;
/** Another process that fetches a µVM may take its time. */
const FETCH_WAIT_MS = 600_000;

/** The µVMs of this host, in one directory. */
export class Squirrel {
  private readonly workers = new WorkerPool();
  /** For what no boot waits for; boots do not wait for it either. */
  private readonly background = new WorkerPool({ niceness: 5 });
  private readonly materialiser: Materialiser;
  private readonly records: Records;
  private readonly collector: Collector;
  private readonly room: Room;
  private readonly intake: Intake;
  /** Changes within this process, one after the other: a lock per process says nothing about its own tasks. */
  private changes: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly layout: CacheLayout,
    limits: CacheLimits,
    private readonly logger: Logger,
  ) {
    this.room = new Room(layout, limits, logger);
    this.materialiser = new Materialiser(layout, this.workers, this.room);
    this.records = new Records(layout);
    this.collector = new Collector(layout, this.records, this.background, logger);
    this.intake = new Intake(layout, this.records, this.background);
  }

  /** Opens the cache, creating it if need be, and removes what crashed processes left in it. */
  static async open(options: SquirrelOptions): Promise<Squirrel> {
    const layout = new CacheLayout(options.directory, options.imagesDirectory);
    for (const directory of layout.directories) await mkdir(directory, { recursive: true, mode: 0o755 });
    await writeFile(layout.marker, '');
    const squirrel = new Squirrel(layout, options.limits, options.logger);
    try {
      await squirrel.change(0, () => squirrel.tidy());
    } catch (error) {
      if (!(error instanceof CacheBusy)) throw error;
      options.logger.info('another process is changing the cache: leftovers stay until the next start');
    }
    return squirrel;
  }

  get directory(): string {
    return this.layout.directory;
  }

  /**
   * A new directory for a bake's files: on the cache's file system, where the libvirt hook accepts RAM files. Goes at the
   * next opening of the cache if this process does not remove it.
   * @param neededBytes what will be written there
   * @throws NoRoom
   */
  async scratch(neededBytes: number): Promise<string> {
    await this.room.require(neededBytes, 'a bake');
    const path = await ownedPath(this.layout.bakes);
    await mkdir(path, { mode: 0o755 });
    return path;
  }

  /**
   * Stores a µVM; resolves once it survives a power cut. Replaces one of the same key. It is held back, in quarantine,
   * until `release`. Order: pack, maps, their directories, the quarantine of this bake; only then the manifest.
   */
  async add(draft: UvmDraft, onProgress?: (percent: number) => void): Promise<UvmManifest> {
    const key = uvmKeySchema.parse(draft.description.key);
    return await this.change(LOCK_WAIT_MS, async () => {
      const packPath = await ownedPath(this.layout.staging);
      const temporary = [packPath];
      try {
        const packs = await this.collector.packs();
        const files = UVM_FILES.map((file) => draft.files[file]);
        const sizes = await Promise.all(files.map(async (file) => (await stat(file)).blocks * 512));
        await this.room.require(
          sizes.reduce((sum, size) => sum + size, 0),
          'a µVM',
        );
        const imagePath = await this.imageIfThere(draft.description.image.id);
        const plan = await this.background.run('planStore', { files, packs, imagePath }, (percent) =>
          onProgress?.(percent * PLAN_SHARE),
        );
        const newPack =
          plan.newPack &&
          (await makePack(this.background, plan.newPack, packPath, (share) =>
            onProgress?.(100 * (PLAN_SHARE + share * (1 - PLAN_SHARE))),
          ));
        const manifest = manifestOf(draft.description, plan, newPack);
        if (newPack !== null) await publish(packPath, this.layout.pack(newPack.id));
        for (const [position, file] of UVM_FILES.entries()) {
          const path = await ownedPath(this.layout.staging);
          temporary.push(path);
          await writeSynced(path, plan.files[position]?.map ?? new Uint8Array());
          await publish(path, this.layout.map(manifest.files[file].map));
        }
        await this.records.writeQuarantine(manifest, NOT_PROVEN);
        const path = await ownedPath(this.layout.staging);
        temporary.push(path);
        await writeSynced(path, serialiseManifest(manifest));
        await publish(path, this.layout.manifest(key));
        await this.materialiser.remove(key);
        await this.collector.dropUnreferenced();
        return manifest;
      } finally {
        for (const path of temporary) await rm(path, { force: true });
      }
    });
  }

  /** Offers a µVM that was held back. */
  async release(key: string): Promise<void> {
    await removeDurably(this.layout.quarantined(uvmKeySchema.parse(key)));
  }

  /**
   * The µVM of this key, or undefined when there is none or it is in quarantine.
   * Rejects with DamagedFile or UnsupportedFormat when there is one that cannot be read.
   */
  async find(key: string): Promise<UvmManifest | undefined> {
    const manifest = await this.records.manifest(key);
    if (manifest === undefined) return undefined;
    return (await this.records.quarantine(manifest)) === undefined ? manifest : undefined;
  }

  /** Everything in the cache, by key. */
  async list(): Promise<CacheEntry[]> {
    const entries: CacheEntry[] = [];
    for (const key of await this.records.keys()) {
      try {
        const manifest = await this.records.manifest(key);
        if (manifest === undefined) continue;
        const quarantine = await this.records.quarantine(manifest);
        if (quarantine === undefined) entries.push({ state: 'ok', key, manifest });
        else entries.push({ state: 'quarantined', key, manifest, ...quarantine });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        entries.push({ state: 'unreadable', key, reason });
      }
    }
    return entries;
  }

  /** Why this µVM is not offered although it is there, or undefined. */
  async quarantined(key: string): Promise<string | undefined> {
    const manifest = await this.records.manifest(key);
    return manifest && (await this.records.quarantine(manifest))?.reason;
  }

  /**
   * Writes the µVM out for clones, if that is not done yet. Every page is checked against its hash; a µVM that fails
   * goes into quarantine and the call rejects with what is damaged.
   * @param options.held also one that is in quarantine, to prove it
   */
  async materialise(key: string, { held = false } = {}): Promise<UvmTemplate> {
    const manifest = held ? await this.records.manifest(key) : await this.find(key);
    if (manifest === undefined) throw new UnknownUvm(key);
    try {
      const files = await this.materialiser.files(manifest);
      return {
        key,
        imageId: manifest.image.id,
        platform: manifest.platform,
        memoryMb: manifest.memoryMb,
        ramPath: files.ram,
        statePath: files.state,
        diskDeltaPath: files.disk,
      };
    } catch (error) {
      if (!(error instanceof DamagedFile)) throw error;
      if (await this.movedSince(manifest)) return await this.materialise(key, { held });
      await this.condemn(manifest, error);
      throw error;
    }
  }

  /** Takes a µVM out of use until it is baked anew; its manifest stays for whoever wants to look at it. */
  async quarantine(key: string, reason: string): Promise<void> {
    const manifest = await this.records.manifest(key);
    if (manifest === undefined) throw new UnknownUvm(key);
    await this.putAside(manifest, reason);
  }

  /** Removes a µVM and the pages only it had. Guests made from it live on. Nothing there is fine. */
  async remove(key: string): Promise<void> {
    uvmKeySchema.parse(key);
    await this.change(LOCK_WAIT_MS, async () => {
      await removeDurably(this.layout.manifest(key));
      await removeDurably(this.layout.quarantined(key));
      await this.materialiser.remove(key);
      await this.collector.dropUnreferenced();
    });
  }

  /** Reads every page of a µVM, and its written-out files; reports what is damaged without changing anything. */
  async verify(key: string): Promise<VerifyReport> {
    const manifest = await this.records.manifest(key);
    if (manifest === undefined) throw new UnknownUvm(key);
    const problems: string[] = [];
    let pages = 0;
    const attempt = async (work: () => Promise<number>): Promise<void> => {
      try {
        pages += await work();
      } catch (error) {
        if (!(error instanceof DamagedFile || error instanceof ImageMissing)) throw error;
        problems.push(error.message);
      }
    };
    for (const file of UVM_FILES) {
      await attempt(
        async () => (await this.background.run('checkMap', this.materialiser.stored(manifest, file))).pages,
      );
    }
    for (const id of manifest.packs) {
      await attempt(
        async () => (await this.background.run('check', { id, path: this.layout.pack(id) })).pages,
      );
    }
    if (problems.length === 0) problems.push(...(await this.materialiser.compare(manifest)));
    if (problems.length > 0 && (await this.movedSince(manifest))) return await this.verify(key);
    return { key, pages, problems };
  }

  /** Where the bytes of a µVM are; its removal frees `ownStoredBytes`. */
  async usage(key: string): Promise<UvmUsage> {
    const manifest = await this.records.manifest(key);
    if (manifest === undefined) throw new UnknownUvm(key);
    const others = (await this.list()).flatMap((entry) =>
      entry.key === key || entry.state === 'unreadable' ? [] : [storedUvm(this.layout, entry.manifest)],
    );
    const [ram, disk, state] = await this.background.run('usage', {
      uvm: storedUvm(this.layout, manifest),
      others,
    });
    if (ram === undefined || disk === undefined || state === undefined)
      throw new RangeError('a file is missing');
    return { ram, disk, state };
  }

  /** How much of the host's disk the cache takes. */
  async budget(): Promise<CacheBudget> {
    const [storedBytes, used] = await Promise.all([this.collector.storedBytes(), this.room.used()]);
    return { storedBytes, ...used };
  }

  /**
   * Frees what no µVM needs: leftovers, and pages in packs that others still need pages of; such packs are written anew
   * and the µVMs' manifests replaced one by one, each whole before and after. Boots go on meanwhile; bakes wait.
   */
  async gc(): Promise<GcReport> {
    return await this.change(LOCK_WAIT_MS, async () => {
      const before = await this.collector.storedBytes();
      await this.tidy();
      const rewrittenPacks = await this.collector.compact();
      const storedBytes = await this.collector.storedBytes();
      return { storedBytes, freedBytes: before - storedBytes, rewrittenPacks };
    });
  }

  /**
   * Everything of a µVM that another host needs.
   * @throws UnknownUvm when it is not there or not offered
   */
  async parcel(key: string): Promise<Parcel> {
    const manifest = await this.find(key);
    if (manifest === undefined) throw new UnknownUvm(key);
    return await this.intake.parcel(manifest);
  }

  /** What of a µVM from elsewhere this cache has no sound copy of; `sizeBytes` is not known here. */
  async lacks(manifest: UvmManifest): Promise<ParcelFile[]> {
    return await this.intake.lacks(manifest);
  }

  /**
   * Runs `work` with the directory for what is fetched of this µVM; it stays, with what is in it, until the µVM was
   * admitted or `forgetAllBut` is called. One process at a time.
   * @param neededBytes what will be written there
   * @throws NoRoom
   */
  async receive<T>(key: string, neededBytes: number, work: (directory: string) => Promise<T>): Promise<T> {
    const directory = this.layout.incomingOf(uvmKeySchema.parse(key));
    await this.room.require(neededBytes, 'a µVM from the store');
    return await withLock(join(this.layout.incoming, 'lock'), FETCH_WAIT_MS, async () => {
      await mkdir(directory, { recursive: true, mode: 0o755 });
      return await work(directory);
    });
  }

  /**
   * Takes in a µVM from elsewhere, replacing one of the same key, once every page of it is checked; it is offered at
   * once.
   * @param text its manifest
   * @param directory from `receive`; has the files that `lacks` named, as `<id>.map` and `<id>.pack`
   * @throws DamagedFile, UnsupportedFormat
   */
  async admit(text: string, directory: string): Promise<UvmManifest> {
    const parcel = await this.intake.check(text, directory);
    try {
      return await this.change(LOCK_WAIT_MS, async () => {
        const manifest = await this.intake.publish(parcel);
        await this.materialiser.remove(manifest.key);
        await removeDurably(this.layout.quarantined(manifest.key));
        await this.collector.dropUnreferenced();
        await rm(directory, { recursive: true, force: true });
        return manifest;
      });
    } finally {
      await parcel.discard();
    }
  }

  /** Removes what was fetched of µVMs other than these. */
  async forgetAllBut(keys: ReadonlySet<string>): Promise<void> {
    await withLock(join(this.layout.incoming, 'lock'), 0, async () => {
      for (const name of await readdir(this.layout.incoming)) {
        if (name === 'lock' || keys.has(name)) continue;
        await rm(join(this.layout.incoming, name), { recursive: true, force: true });
      }
    });
  }

  /** Waits for changes in hand and ends the worker threads. */
  async close(): Promise<void> {
    await this.changes;
    await this.workers.close();
    await this.background.close();
  }

  /** Runs a change after those before it, while no other process changes the cache. */
  private async change<T>(waitMs: number, work: () => Promise<T>): Promise<T> {
    const result = this.changes.then(() => withLock(this.layout.lock, waitMs, work));
    this.changes = result.catch(() => undefined);
    return await result;
  }

  /** Removes leftovers. The lock is held, so what is staged belongs to nobody or to a change that crashed. */
  private async tidy(): Promise<void> {
    for (const directory of [this.layout.staging, this.layout.bakes]) {
      for (const name of await readdir(directory)) {
        if (!(await ownerIsAlive(name))) await rm(join(directory, name), { recursive: true, force: true });
      }
    }
    await this.materialiser.tidy();
    await this.dropOldFormats();
    await this.collector.dropUnreferenced();
  }

  /** Removes µVMs that an earlier version of this program stored: they are only good for being baked again. */
  private async dropOldFormats(): Promise<void> {
    for (const key of await this.records.keys()) {
      try {
        await this.records.manifest(key);
      } catch (error) {
        if (!isOldFormat(error)) continue;
        this.logger.warn(
          { key, err: error },
          'µVM of an earlier format removed: its image has to be baked again',
        );
        await removeDurably(this.layout.manifest(key));
        await removeDurably(this.layout.quarantined(key));
        await this.materialiser.remove(key);
      }
    }
  }

  /** Whether the pages of this very bake were moved after its manifest was read: by a `gc`, maybe another process's. */
  private async movedSince(manifest: UvmManifest): Promise<boolean> {
    const now = await this.records.manifest(manifest.key);
    return now?.bakedAt === manifest.bakedAt && now.packs.join() !== manifest.packs.join();
  }

  /** A page was not what was stored: no µVM may refer to that pack any more, and this one is not offered. */
  private async condemn(manifest: UvmManifest, damage: DamagedFile): Promise<void> {
    const now = await this.records.manifest(manifest.key);
    // Removed or baked anew meanwhile: then its old pages are rightly gone.
    if (now?.bakedAt !== manifest.bakedAt) return;
    await this.putAside(manifest, damage.message);
    if (manifest.packs.some((id) => this.layout.pack(id) === damage.path)) {
      await rename(damage.path, `${damage.path}.damaged`).catch(ignoreMissing);
    }
  }

  private async putAside(manifest: UvmManifest, reason: string): Promise<void> {
    this.logger.error({ key: manifest.key, reason }, 'µVM put into quarantine');
    await this.records.writeQuarantine(manifest, reason);
    await this.materialiser.remove(manifest.key);
  }

  private async imageIfThere(imageId: string): Promise<string | undefined> {
    const path = this.layout.image(imageId);
    return await access(path).then(
      () => path,
      () => undefined,
    );
  }
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}

function manifestOf(
  description: UvmDescription,
  plan: StorePlan,
  newPack: { id: string; bytes: number } | null,
): UvmManifest {
  const file = (position: number): UvmManifest['files']['ram'] => {
    const planned = plan.files[position];
    if (planned === undefined) throw new RangeError(`file ${position} was not stored`);
    const { map, ...counts } = planned;
    return { ...counts, map: sha256(map) };
  };
  const maps = plan.files.reduce((sum, { map }) => sum + map.length, 0);
  return {
    ...description,
    files: { ram: file(0), disk: file(1), state: file(2) },
    packs: plan.packs.flatMap((id) => id ?? newPack?.id ?? []),
    addedBytes: (newPack?.bytes ?? 0) + maps,
  };
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
