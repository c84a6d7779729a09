/** Hosts that share made-up µVMs, for tests of hoarding: each has a cache of its own. */
import { createHash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import pino from 'pino';
import { keyOfManifest } from '../../lib/bake';
import { Claims, Pace, type SharedStore, UvmStore, pull, push, type StoredKey } from '../../lib/hoard';
import { KeystoneSession, ObjectStore } from '../../lib/openstack';
import { Squirrel } from '../../lib/squirrel';
import { DESCRIPTION, UNLIMITED, makeDraft, page } from './squirrel';

export const silent = pino({ level: 'silent' });

/** A container of a store that is reached through this Keystone. */
export function openObjects(authUrl: string, container = 'prebake'): ObjectStore {
  const auth = { authUrl, username: 'nova', password: 'secret', projectName: 'service', timeoutMs: 5_000 };
  return new ObjectStore(new KeystoneSession(auth, silent), container);
}

/** The store as a host of this name uses it, without limits. */
export function shareThrough(
  objects: ObjectStore,
  owner: string,
  times?: ConstructorParameters<typeof Claims>[3],
): SharedStore {
  return {
    store: new UvmStore(objects),
    claims: new Claims(objects, owner, silent, times),
    fetchPace: new Pace(0),
    uploadPace: new Pace(0),
  };
}

/** Always the same for a name, so that another process knows it. */
export function imageIdOf(name: string): string {
  const digits = createHash('sha256').update(name).digest('hex');
  return [8, 12, 16, 20, 32].map((end, at) => digits.slice([0, 8, 12, 16, 20][at], end)).join('-');
}

/** The key of a made-up µVM of this image. */
export function keyOfMade(imageId: string): string {
  return keyOfManifest({ ...DESCRIPTION, image: { id: imageId, checksum: null } });
}

/** A host with a cache, and the ways to and from the store. */
export class HoardingHost {
  private constructor(
    readonly directory: string,
    readonly squirrel: Squirrel,
    readonly shared: SharedStore,
  ) {}

  static async open(parent: string, name: string, objects: ObjectStore): Promise<HoardingHost> {
    return await HoardingHost.share(parent, join(parent, name), shareThrough(objects, name));
  }

  static async share(parent: string, directory: string, shared: SharedStore): Promise<HoardingHost> {
    const squirrel = await Squirrel.open({
      directory,
      imagesDirectory: parent,
      limits: UNLIMITED,
      logger: silent,
    });
    return new HoardingHost(directory, squirrel, shared);
  }

  /**
   * Stores a µVM of `pages` made-up pages of its own and 100 that all have, under the key that belongs to it.
   * @param imageId a new one for each image
   */
  async make(
    parent: string,
    seed: string,
    pages: number,
    imageId: string = randomUUID(),
  ): Promise<StoredKey> {
    const shared = Array.from({ length: 100 }, (_, index) => page(`shared ${index}`, false));
    const own = Array.from({ length: pages }, (_, index) => page(`${seed} ${index}`, false));
    const draft = await makeDraft(parent, seed, [...shared, ...own]);
    const image = { id: imageId, checksum: null };
    const key = keyOfMade(imageId);
    await this.squirrel.add({ ...draft, description: { ...draft.description, image, key } });
    await this.squirrel.release(key);
    return { imageId, key };
  }

  async push(uvm: StoredKey, replace = false): ReturnType<typeof push> {
    return await push(this.squirrel, this.shared.store, uvm.key, { pace: this.shared.uploadPace, replace });
  }

  async pull(uvm: StoredKey): ReturnType<typeof pull> {
    const { store, fetchPace: pace } = this.shared;
    return await pull(this.squirrel, store, uvm, keyOfManifest, { pace });
  }
}
