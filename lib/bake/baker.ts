/** Bakes µVMs: boots an image once, seals it, captures it, stores it, and proves it by a clone. */
import type { Logger } from 'pino';
import type { ImageSpec, TemplateDriver } from '../../drivers/driver';
import type { Squirrel, UvmManifest } from '../squirrel';

/** The steps of a bake, in order. */
export const BAKE_PHASES = ['boot', 'seal', 'unplug', 'zero', 'capture', 'store', 'prove'] as const;
/** A step of a bake. */
export type BakePhase = (typeof BAKE_PHASES)[number];

/** Where a bake is; `percent` only where it is known. */
export interface BakeProgress {
  readonly imageId: string;
  readonly phase: BakePhase;
  readonly percent?: number;
  /** Milliseconds since the bake began. */
  readonly elapsedMs: number;
}

/** A bake did not end in a µVM; says in which step and why. */
export class BakeError extends Error {
  constructor(
    readonly imageId: string,
    readonly phase: BakePhase | 'queue',
    reason: string,
    options?: ErrorOptions,
  ) {
    super(`baking image ${imageId} failed (${phase}): ${reason}`, options);
    this.name = 'BakeError';
  }
}

/** What of the configuration concerns baking. */
export interface BakeSettings {
  /** Memory of the µVM, `[prebake] base_memory_mb`. */
  readonly memoryMb: number;
  /** For the whole bake, `[prebake] bake_timeout_s` * 1000. */
  readonly timeoutMs: number;
}

/** What a baker works with. */
export interface BakerParts {
  readonly squirrel: Squirrel;
  readonly driver: TemplateDriver;
  readonly settings: BakeSettings;
  readonly logger: Logger;
}

/** How one caller follows or ends a bake. */
export interface BakeOptions {
  readonly onProgress?: (progress: BakeProgress) => void;
  /** Ends the bake, and what it had started, when every caller that asked for it has aborted. */
  readonly signal?: AbortSignal;
}

/** The baker of this host: one bake at a time, each image once however many ask for it. */
export abstract class Baker {
  abstract bake(image: ImageSpec, options?: BakeOptions): Promise<UvmManifest>;
  /** The µVM key of an image on this host, as its platform is now. */
  abstract keyOf(image: ImageSpec): Promise<string>;
  /** Progress of the bake in hand and the ids of images waiting behind it. */
  abstract readonly state: { readonly current: BakeProgress | null; readonly queued: readonly string[] };
  abstract close(): Promise<void>;
}
