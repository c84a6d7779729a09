/**
 * Where everything is in a cache directory:
 *
 *   .prebake-cache         marks the directory, for the libvirt hook
 *   lock                   held by the process that changes uvms/, maps/, packs/ or quarantine/
 *   uvms/<key>.json        manifests; a µVM exists exactly when its manifest does
 *   maps/<sha256>.map      page maps
 *   packs/<sha256>.pack    pages
 *   quarantine/<key>.json  µVMs not to be offered, and why
 *   materialised/<key>/    ram, state, disk.qcow2 and written.json, ready for clones
 *   bakes/                 the baker's scratch
 *   incoming/<key>/        verified parts of a µVM that is being fetched
 *   staging/               files that are being written, named after their process
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { UvmFileName } from './manifest';

/** Names of a µVM's files when written out. */
export const MATERIALISED_NAMES: Readonly<Record<UvmFileName, string>> = {
  ram: 'ram',
  disk: 'disk.qcow2',
  state: 'state',
};

/** In the directory of a written-out µVM: of which bake and boot it is; its time of change is the last use. */
export const WRITTEN_NAME = 'written.json';

/** Paths in a cache directory. Keys and digests are hexadecimal, so no path can leave it. */
export class CacheLayout {
  readonly marker: string;
  readonly lock: string;
  readonly uvms: string;
  readonly maps: string;
  readonly packs: string;
  readonly quarantine: string;
  readonly materialised: string;
  readonly bakes: string;
  readonly incoming: string;
  readonly staging: string;

  /**
   * @param images where the base files of images are, named as Nova names them: nova/virt/libvirt/imagecache.py,
   *   get_cache_fname
   */
  constructor(
    readonly directory: string,
    readonly images: string,
  ) {
    this.marker = join(directory, '.prebake-cache');
    this.lock = join(directory, 'lock');
    this.uvms = join(directory, 'uvms');
    this.maps = join(directory, 'maps');
    this.packs = join(directory, 'packs');
    this.quarantine = join(directory, 'quarantine');
    this.materialised = join(directory, 'materialised');
    this.bakes = join(directory, 'bakes');
    this.incoming = join(directory, 'incoming');
    this.staging = join(directory, 'staging');
  }

  get directories(): readonly string[] {
    return [
      this.uvms,
      this.maps,
      this.packs,
      this.quarantine,
      this.materialised,
      this.bakes,
      this.incoming,
      this.staging,
    ];
  }

  /** The base file of an image; it is the driver's, and may not be there. */
  image(imageId: string): string {
    return join(this.images, createHash('sha1').update(imageId).digest('hex'));
  }
  manifest(key: string): string {
    return join(this.uvms, `${key}.json`);
  }
  /** Where what is fetched of a µVM is kept until it is all there. */
  incomingOf(key: string): string {
    return join(this.incoming, key);
  }
  map(digest: string): string {
    return join(this.maps, `${digest}.map`);
  }
  pack(id: string): string {
    return join(this.packs, `${id}.pack`);
  }
  quarantined(key: string): string {
    return join(this.quarantine, `${key}.json`);
  }
  written(key: string): string {
    return join(this.materialised, key);
  }
  writtenFile(key: string, file: UvmFileName): string {
    return join(this.materialised, key, MATERIALISED_NAMES[file]);
  }
}
