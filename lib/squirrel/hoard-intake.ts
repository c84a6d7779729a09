/**
 * µVMs as they travel between hosts: what belongs to one, what of it a cache lacks, and the way in for what came from
 * elsewhere, which is worth nothing before it is checked.
 */
import { createHash } from 'node:crypto';
import { access, link, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ownedPath, publish, syncDirectory, writeSynced } from '../durable';
import { DamagedFile } from './errors';
import type { CacheLayout } from './layout';
import { parseManifest, serialiseManifest, UVM_FILES, type UvmManifest } from './manifest';
import type { Records } from './records';
import type { WorkerPool } from './worker-pool';

/** A file of a cache that a µVM needs; digests are all there is to its name. */
export interface ParcelFile {
  readonly kind: 'map' | 'pack';
  readonly id: string;
}

/** A µVM to be sent. */
export interface Parcel {
  readonly manifest: UvmManifest;
  /** The manifest as the text of its file. */
  readonly text: string;
  readonly files: readonly (ParcelFile & { readonly path: string; readonly sizeBytes: number })[];
}

/** A µVM that came and was found sound. */
interface CheckedParcel {
  readonly manifest: UvmManifest;
  readonly text: string;
  /** All its files, each under its name. */
  readonly directory: string;
  readonly fresh: readonly ParcelFile[];
  discard(): Promise<void>;
}

const MIB = 1024 ** 2;
/** No disk delta or device state of a minimal guest is as large as this. */
const MAX_OTHER_FILE_BYTES = 2 * 1024 * MIB;
/** A page map of 64 GiB of memory in the worst order. */
export const MAX_MAP_BYTES = 96 * MIB;

/** The name of a file while it is on its way. */
export function fileNameOf({ kind, id }: ParcelFile): string {
  return `${id}.${kind}`;
}

/** Sends and receives for one cache; what it publishes, it publishes under the lock of its caller. */
export class Intake {
  constructor(
    private readonly layout: CacheLayout,
    private readonly records: Records,
    private readonly workers: WorkerPool,
  ) {}

  /** A µVM with its files as they are now; a `gc` meanwhile may move them. */
  async parcel(manifest: UvmManifest): Promise<Parcel> {
    const files = await Promise.all(
      filesOf(manifest).map(async (file) => {
        const path = this.home(file);
        return { ...file, path, sizeBytes: (await stat(path)).size };
      }),
    );
    return { manifest, text: serialiseManifest(manifest), files };
  }

  /** Files that are not here or, where this µVM is here but not offered, not what they were. */
  async lacks(manifest: UvmManifest): Promise<ParcelFile[]> {
    const known = await this.records.manifest(manifest.key).catch(() => undefined);
    const doubtful = known !== undefined && (await this.records.quarantine(known)) !== undefined;
    const lacking: ParcelFile[] = [];
    for (const file of filesOf(manifest)) {
      if (!(await isThere(this.home(file)))) lacking.push(file);
      else if (file.kind === 'map') {
        if ((await digestOf(this.home(file))) !== file.id) lacking.push(file);
      } else if (doubtful && !(await this.isSound(file))) lacking.push(file);
    }
    return lacking;
  }

  /**
   * Checks a µVM that came. What the cache has already is linked to beside it, so that a `gc` cannot take it away.
   * @throws DamagedFile, UnsupportedFormat
   */
  async check(text: string, from: string): Promise<CheckedParcel> {
    const manifest = parseManifest(text, 'the manifest from the store');
    checkSizes(manifest);
    const directory = await ownedPath(this.layout.staging);
    const discard = (): Promise<void> => rm(directory, { recursive: true, force: true });
    try {
      await mkdir(directory, { mode: 0o755 });
      const fresh: ParcelFile[] = [];
      for (const file of filesOf(manifest)) {
        const name = fileNameOf(file);
        if (await isThere(join(from, name))) {
          await link(join(from, name), join(directory, name));
          fresh.push(file);
        } else {
          await link(this.home(file), join(directory, name)).catch((error: unknown) => {
            throw new DamagedFile(name, 'it did not come and is not here', { cause: error });
          });
        }
      }
      for (const file of fresh) {
        if (file.kind === 'map' && (await stat(join(directory, fileNameOf(file)))).size > MAX_MAP_BYTES) {
          throw new DamagedFile(fileNameOf(file), 'it is too large for a page map');
        }
      }
      const at = (file: ParcelFile): string => join(directory, fileNameOf(file));
      await this.workers.run('inspect', {
        uvm: {
          packs: manifest.packs.map((id) => ({ id, path: at({ kind: 'pack', id }) })),
          maps: UVM_FILES.map((name) => {
            const { map, sizeBytes } = manifest.files[name];
            return { path: at({ kind: 'map', id: map }), digest: map, sizeBytes };
          }),
        },
        fresh: fresh.filter((file) => file.kind === 'pack').map((file) => file.id),
      });
      return { manifest, text, directory, fresh, discard };
    } catch (error) {
      await discard();
      throw error;
    }
  }

  /** Puts a checked µVM into the cache: what is referred to first, the manifest last. */
  async publish({ manifest, text, directory, fresh }: CheckedParcel): Promise<UvmManifest> {
    const came = new Set(fresh.map(fileNameOf));
    for (const file of filesOf(manifest)) {
      const name = fileNameOf(file);
      if (!came.has(name) && (await isThere(this.home(file)))) continue;
      await sync(join(directory, name));
      await rename(join(directory, name), this.home(file));
    }
    await syncDirectory(this.layout.packs);
    await syncDirectory(this.layout.maps);
    const path = await ownedPath(this.layout.staging);
    await writeSynced(path, text);
    await publish(path, this.layout.manifest(manifest.key));
    return manifest;
  }

  private home({ kind, id }: ParcelFile): string {
    return kind === 'map' ? this.layout.map(id) : this.layout.pack(id);
  }

  private async isSound(file: ParcelFile): Promise<boolean> {
    try {
      await this.workers.run('check', { id: file.id, path: this.home(file) });
      return true;
    } catch (error) {
      if (!(error instanceof DamagedFile)) throw error;
      return false;
    }
  }
}

/** The files a manifest names, each once; a pack after those that it may need. */
function filesOf(manifest: UvmManifest): ParcelFile[] {
  const packs = manifest.packs.map((id) => ({ kind: 'pack', id }) as const);
  const maps = UVM_FILES.map((file) => ({ kind: 'map', id: manifest.files[file].map }) as const);
  return [...new Map([...packs, ...maps].map((file) => [fileNameOf(file), file])).values()];
}

/** A manifest that asks for more than a µVM can be would fill the disk when it is written out. */
function checkSizes({ key, memoryMb, files }: UvmManifest): void {
  if (files.ram.sizeBytes > memoryMb * MIB) {
    throw new DamagedFile(`the manifest of ${key}`, `its memory is larger than ${memoryMb} MiB`);
  }
  for (const name of ['disk', 'state'] as const) {
    if (files[name].sizeBytes <= MAX_OTHER_FILE_BYTES) continue;
    throw new DamagedFile(`the manifest of ${key}`, `its ${name} is larger than any`);
  }
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

async function digestOf(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
