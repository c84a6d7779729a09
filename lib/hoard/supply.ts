/**
 * Where µVMs come from: the object store if it has them, else a bake on this host, which is then everybody's. Among the
 * hosts that want the same µVM one bakes, by a claim in the store. Without an object store, or while it is away, every
 * host bakes for itself: a store that does not answer costs time, never a µVM.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { ImageSpec } from '../../drivers/driver';
import { type BakeOptions, type Baker, keyOfManifest } from '../bake';
import { describeError } from '../exceptions';
import { ObjectRefused } from '../openstack';
import { NoRoom, type Squirrel, type UvmManifest } from '../squirrel';
import type { Claim, Claims } from './claims';
import type { Pace } from './pace';
import { type Pulled, pull } from './pull';
import { push } from './push';
import type { Transfer, TransferProgress } from './transfer';
import type { StoredKey, UvmStore } from './uvm-store';

/** The store as this host uses it. */
export interface SharedStore {
  readonly store: UvmStore;
  readonly claims: Claims;
  readonly fetchPace: Pace;
  readonly uploadPace: Pace;
}

/** Hears of transfers; the service's metrics are one. */
export interface TransferMeter {
  hoardBytes(direction: 'fetched' | 'uploaded', bytes: number): void;
  hoardEnded(direction: 'fetched' | 'uploaded', outcome: 'done' | 'failed'): void;
}

export interface SupplyParts {
  readonly squirrel: Squirrel;
  readonly baker: Pick<Baker, 'bake' | 'keyOf' | 'failures'>;
  /** Undefined keeps everything on this host. */
  readonly shared: SharedStore | undefined;
  readonly meter: TransferMeter;
  /** Tells the other hosts of a µVM that is in the store now. */
  readonly announce: (uvm: StoredKey) => Promise<void>;
  readonly logger: Logger;
  /** Between two looks at a claim of another host. */
  readonly claimPollMs?: number;
}

/** How one caller follows or gives up a transfer. */
export interface FollowOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TransferProgress) => void) | undefined;
}

const CLAIM_POLL_MS = 5_000;

/** The µVMs that this host can have. */
export class Supply {
  private readonly ending = new AbortController();
  private readonly background = new Set<Promise<unknown>>();

  constructor(private readonly parts: SupplyParts) {}

  /** Bakes of this host that failed. */
  get failures(): Baker['failures'] {
    return this.parts.baker.failures;
  }

  /** The key of an image's µVM on this host, as its platform is now. */
  async keyOf(image: ImageSpec): Promise<string> {
    return await this.parts.baker.keyOf(image);
  }

  /**
   * The µVM of an image, from the store or baked, here or on another host.
   * @throws BakeError, NoRoom, or the signal's reason
   */
  async bake(image: ImageSpec, options: BakeOptions = {}): Promise<UvmManifest> {
    const pollMs = this.parts.claimPollMs ?? CLAIM_POLL_MS;
    for (;;) {
      const manifest = await this.obtain(image, options);
      if (manifest !== undefined) return manifest;
      await delay(pollMs * (1 + Math.random()), undefined, { signal: this.signal(options.signal) });
    }
  }

  /** As `bake`, but undefined when another host is baking it. */
  async obtain(image: ImageSpec, options: BakeOptions = {}): Promise<UvmManifest | undefined> {
    const { baker, shared, squirrel, logger } = this.parts;
    if (shared === undefined) return await baker.bake(image, options);
    const uvm = { imageId: image.id, key: await baker.keyOf(image) };
    // Who asks for one that is here wants a newer one.
    const here = await squirrel.find(uvm.key).catch(() => undefined);
    let replace = here !== undefined;
    let claim: Claim | undefined;
    try {
      const pulled = await this.fetch(uvm, { signal: options.signal, newerThan: here?.bakedAt }).catch(
        refusedOnly,
      );
      if (pulled instanceof ObjectRefused) replace = true;
      else if (pulled !== undefined) return pulled.manifest;
      claim = await shared.claims.take(uvm.key, options.signal);
      if (claim === undefined) return undefined;
      // Whoever had the claim until now may have sent it.
      if (!replace && (await shared.store.has(uvm, options.signal))) {
        await claim.release();
        return await this.obtain(image, options);
      }
    } catch (error) {
      await claim?.release();
      claim = undefined;
      options.signal?.throwIfAborted();
      if (error instanceof NoRoom) throw error;
      logger.warn({ ...uvm }, `the object store does not help, baking here: ${describeError(error)}`);
    }
    return await this.bakeForAll(image, uvm, claim, replace, options);
  }

  /**
   * Fetches a µVM; undefined when the store does not have it.
   * @throws ObjectRefused, NoRoom, the errors of a service call
   */
  async fetch(
    uvm: StoredKey,
    options: FollowOptions & { readonly newerThan?: string | undefined } = {},
  ): Promise<Pulled | undefined> {
    const { shared, squirrel, meter, logger } = this.parts;
    if (shared === undefined) return undefined;
    const { store, fetchPace: pace } = shared;
    const signal = this.signal(options.signal);
    try {
      const onProgress = this.metered('fetched', options.onProgress);
      const { newerThan } = options;
      const pulled = await pull(squirrel, store, uvm, keyOfManifest, { pace, signal, onProgress, newerThan });
      if (pulled === undefined) return undefined;
      meter.hoardEnded('fetched', 'done');
      logger.info({ ...uvm, bytes: pulled.sentBytes }, 'µVM fetched from the store');
      return pulled;
    } catch (error) {
      meter.hoardEnded('fetched', 'failed');
      if (error instanceof ObjectRefused) logger.error({ ...uvm, err: error }, 'µVM of the store refused');
      throw error;
    }
  }

  /**
   * Sends a µVM of this host and announces it; undefined when the store has it.
   * @throws UnknownUvm, the errors of a service call
   */
  async send(
    key: string,
    options: FollowOptions & { readonly replace?: boolean } = {},
  ): Promise<Transfer | undefined> {
    const { shared, squirrel, meter, logger, announce } = this.parts;
    if (shared === undefined) return undefined;
    const signal = this.signal(options.signal);
    try {
      const transfer = await push(squirrel, shared.store, key, {
        pace: shared.uploadPace,
        signal,
        onProgress: this.metered('uploaded', options.onProgress),
        replace: options.replace ?? false,
      });
      if (transfer === undefined) return undefined;
      meter.hoardEnded('uploaded', 'done');
      logger.info({ key, bytes: transfer.sentBytes }, 'µVM sent to the store');
      const manifest = await squirrel.find(key);
      if (manifest !== undefined) {
        await announce({ imageId: manifest.image.id, key }).catch((error: unknown) =>
          logger.warn({ key }, `µVM not announced, others find it later: ${describeError(error)}`),
        );
      }
      return transfer;
    } catch (error) {
      meter.hoardEnded('uploaded', 'failed');
      throw error;
    }
  }

  /** Gives up what is under way and waits until nothing of it is left. */
  async close(): Promise<void> {
    this.ending.abort(new Error('the service stops'));
    await Promise.all(this.background);
  }

  /** The bake is done when the µVM is here; that it gets to the others is not what a boot waits for. */
  private async bakeForAll(
    image: ImageSpec,
    uvm: StoredKey,
    claim: Claim | undefined,
    replace: boolean,
    options: BakeOptions,
  ): Promise<UvmManifest> {
    let manifest: UvmManifest;
    try {
      manifest = await this.parts.baker.bake(image, options);
    } catch (error) {
      await claim?.release();
      throw error;
    }
    const sending = this.send(uvm.key, { replace })
      .catch((error: unknown) =>
        this.parts.logger.warn({ ...uvm }, `µVM not sent, tried again later: ${describeError(error)}`),
      )
      .then(() => claim?.release())
      .finally(() => this.background.delete(sending));
    this.background.add(sending);
    return manifest;
  }

  private signal(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.ending.signal : AbortSignal.any([signal, this.ending.signal]);
  }

  private metered(
    direction: 'fetched' | 'uploaded',
    onProgress: ((progress: TransferProgress) => void) | undefined,
  ): (progress: TransferProgress) => void {
    let countedBytes = 0;
    return (progress) => {
      this.parts.meter.hoardBytes(direction, progress.sentBytes - countedBytes);
      countedBytes = progress.sentBytes;
      onProgress?.(progress);
    };
  }
}

/** A µVM of the store that cannot be used is one to be made anew; any other failure is one. */
function refusedOnly(error: unknown): ObjectRefused {
  if (error instanceof ObjectRefused) return error;
  throw error;
}
