/**
 * Looks over all images and µVMs and does what is missing: announcements make things fast, this makes them sure. Fetches
 * what the store has, sends what it lacks, bakes what is wanted, mends what is damaged, and lets go of deleted images.
 */
import type { Logger } from 'pino';
import { type Baker, imageObstacle, imagePolicy, mayTryAgain } from '../bake';
import { describeError, ImageNotFound } from '../exceptions';
import { type Glance, type GlanceImage, isHttpError, ObjectRefused } from '../openstack';
import { CacheBusy, NoRoom, type Squirrel } from '../squirrel';
import { collectStore } from './store-gc';
import type { SharedStore, Supply } from './supply';
import type { StoredKey } from './uvm-store';

/** `[prebake] bake`. */
export type BakePolicy = 'auto' | 'tagged' | 'all' | 'never';

export interface SweeperParts {
  readonly glance: Pick<Glance, 'list' | 'show'>;
  readonly squirrel: Squirrel;
  readonly baker: Pick<Baker, 'keyOf' | 'failures'>;
  readonly supply: Pick<Supply, 'obtain' | 'bake' | 'fetch' | 'send'>;
  readonly shared: SharedStore | undefined;
  /** As it is at the time. */
  readonly policy: () => BakePolicy;
  readonly logger: Logger;
}

/** The store is cleaned up by one host, this often. */
const STORE_GC_S = 6 * 3600;

/** Whether an image is to have a µVM before any server is booted from it. */
export function wantedUnasked(image: GlanceImage, policy: BakePolicy): boolean {
  if (policy === 'all') return true;
  if (policy !== 'tagged') return false;
  return image.tags.includes('prebake') || imagePolicy(image).bake === 'always';
}

/** Sweeps, and looks after single images. */
export class Sweeper {
  constructor(private readonly parts: SweeperParts) {}

  /** Looks over everything. What goes wrong with one image is logged and does not keep the others. */
  async sweep(signal?: AbortSignal): Promise<void> {
    const { glance, shared, logger } = this.parts;
    const images = await glance.list(signal);
    const stored = await this.storedKeys(signal);
    await this.dropDeleted(new Set(images.map(({ id }) => id)), stored ?? [], signal);
    if (this.parts.policy() === 'never') return;
    const inStore = stored && new Set(stored.map(({ key }) => key));
    const elsewhere: GlanceImage[] = [];
    for (const image of images) {
      signal?.throwIfAborted();
      const done = await this.lookAfter(image, inStore, signal);
      if (!done) elsewhere.push(image);
    }
    // Other hosts were at these: by now they are done, or dead.
    for (const image of elsewhere) {
      await this.seeThrough(image, signal);
    }
    if (shared !== undefined && inStore !== undefined) await this.cleanUp(shared, signal);
    logger.debug({ images: images.length }, 'swept');
  }

  /** One image that is new, or changed, or has a µVM in the store now. */
  async consider(imageId: string, signal?: AbortSignal): Promise<void> {
    if (this.parts.policy() === 'never') return;
    const image = await this.parts.glance.show(imageId, signal);
    const stored = await this.storedKeys(signal, imageId);
    const done = await this.lookAfter(image, stored && new Set(stored.map(({ key }) => key)), signal);
    if (!done) await this.seeThrough(image, signal);
  }

  /** Removes the µVMs of an image here and in the store, if Glance says that it is gone. */
  async forget(imageId: string, signal?: AbortSignal): Promise<void> {
    const { glance, squirrel, shared, logger } = this.parts;
    if (!(await isGone(glance, imageId, signal))) return;
    for (const entry of await squirrel.list()) {
      if (entry.state === 'unreadable' || entry.manifest.image.id !== imageId) continue;
      await squirrel.remove(entry.key);
      logger.info({ image: imageId, key: entry.key }, 'µVM of a deleted image removed');
    }
    if (shared === undefined) return;
    for (const uvm of await shared.store.keys(imageId, signal)) {
      await shared.store.removeEntry(uvm, signal);
      logger.info({ ...uvm }, 'µVM of a deleted image removed from the store');
    }
  }

  /** False when another host is baking it. */
  private async lookAfter(
    image: GlanceImage,
    inStore: ReadonlySet<string> | undefined,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    if (image.status !== 'active' || imageObstacle(image) !== undefined) return true;
    return await this.guarded(image, signal, async (key) => {
      const { supply, policy } = this.parts;
      const state = await this.stateOf(key);
      if (state === 'ok') {
        if (inStore?.has(key) === false) await supply.send(key, { signal });
        return true;
      }
      const options = signal === undefined ? {} : { signal };
      if (inStore?.has(key) === true) {
        try {
          if ((await supply.fetch({ imageId: image.id, key }, { signal })) !== undefined) return true;
        } catch (error) {
          if (!(error instanceof ObjectRefused)) throw error;
        }
        return (await supply.obtain(image, options)) !== undefined;
      }
      if (state === 'none' && !wantedUnasked(image, policy())) return true;
      return (await supply.obtain(image, options)) !== undefined;
    });
  }

  /** Waits for the µVM that another host is baking, or bakes it should that host have died. */
  private async seeThrough(image: GlanceImage, signal: AbortSignal | undefined): Promise<void> {
    await this.guarded(image, signal, async () => {
      await this.parts.supply.bake(image, signal === undefined ? {} : { signal });
      return true;
    });
  }

  /** Runs `work` unless a bake failed and is not to be tried again yet; a failure is logged. */
  private async guarded(
    image: GlanceImage,
    signal: AbortSignal | undefined,
    work: (key: string) => Promise<boolean>,
  ): Promise<boolean> {
    const { baker, logger } = this.parts;
    let key = '';
    try {
      key = await baker.keyOf(image);
      const failure = await baker.failures.find(key);
      if (failure !== undefined && !mayTryAgain(failure)) return true;
      return await work(key);
    } catch (error) {
      signal?.throwIfAborted();
      logger.warn({ image: image.id, key }, `no µVM: ${describeError(error)}`);
      if (error instanceof NoRoom) throw error;
      return true;
    }
  }

  private async stateOf(key: string): Promise<'ok' | 'damaged' | 'none'> {
    const { squirrel } = this.parts;
    try {
      if ((await squirrel.find(key)) !== undefined) return 'ok';
      return (await squirrel.quarantined(key)) === undefined ? 'none' : 'damaged';
    } catch {
      return 'damaged';
    }
  }

  /** What is in the store; undefined without one, or while it is away. */
  private async storedKeys(signal?: AbortSignal, imageId?: string): Promise<StoredKey[] | undefined> {
    const { shared, logger } = this.parts;
    if (shared === undefined) return undefined;
    try {
      await shared.store.objects.prepare(signal);
      return await shared.store.keys(imageId, signal);
    } catch (error) {
      signal?.throwIfAborted();
      logger.warn(`the object store is away: ${describeError(error)}`);
      return undefined;
    }
  }

  /** Images that Glance does not list are asked for one by one: a list may leave some out. */
  private async dropDeleted(
    listed: ReadonlySet<string>,
    stored: readonly StoredKey[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { squirrel, logger } = this.parts;
    const here = (await squirrel.list()).flatMap((entry) =>
      entry.state === 'unreadable' ? [] : [entry.manifest.image.id],
    );
    const ids = new Set([...here, ...stored.map(({ imageId }) => imageId)]);
    for (const imageId of ids) {
      if (listed.has(imageId)) continue;
      await this.forget(imageId, signal).catch((error: unknown) => {
        signal?.throwIfAborted();
        logger.warn({ image: imageId }, `µVMs of the image stay for now: ${describeError(error)}`);
      });
    }
  }

  private async cleanUp({ store, claims }: SharedStore, signal: AbortSignal | undefined): Promise<void> {
    const { squirrel, logger } = this.parts;
    try {
      const keys = new Set((await store.keys(undefined, signal)).map(({ key }) => key));
      await squirrel.forgetAllBut(keys);
      // The claim is not released: it keeps all hosts from doing it again before its time is over.
      if (!(await claims.takeFor('gc', STORE_GC_S, signal))) return;
      const report = await collectStore(store, logger, { signal });
      logger.info({ ...report }, 'cleaned up the object store');
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof CacheBusy) return;
      logger.warn(`nothing was cleaned up: ${describeError(error)}`);
    }
  }
}

/** Whether there is no such image any more; one that may only not be seen is not gone. */
async function isGone(
  glance: Pick<Glance, 'show'>,
  imageId: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    return ['deleted', 'pending_delete'].includes((await glance.show(imageId, signal)).status);
  } catch (error) {
    if (error instanceof ImageNotFound && isHttpError(error.cause, 404)) return true;
    throw error;
  }
}
