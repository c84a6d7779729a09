/** The cache of µVMs of one host. */
import type { Logger } from 'pino';
import type { UvmTemplate } from '../../drivers/driver';
import type { UvmDescription, UvmFileName, UvmManifest } from './manifest';

/** Where the cache is, and who hears of it. */
export interface SquirrelOptions {
  /** `[prebake] cache_directory`, absolute. */
  readonly directory: string;
  readonly logger: Logger;
}

/** A µVM that was just baked: its description and its files, which the cache copies from. */
export interface UvmDraft {
  readonly description: UvmDescription;
  readonly files: Readonly<Record<UvmFileName, string>>;
}

/** One line of the cache's list. */
export type CacheEntry =
  | { readonly state: 'ok'; readonly key: string; readonly manifest: UvmManifest }
  | { readonly state: 'quarantined'; readonly key: string; readonly reason: string; readonly since: string };

/** What a verification found; `problems` name the files. */
export interface VerifyReport {
  readonly key: string;
  readonly pages: number;
  readonly problems: readonly string[];
}

/** The µVMs of this host, in one directory. */
export abstract class Squirrel {
  static open(options: SquirrelOptions): Promise<Squirrel> {
    return Promise.reject(new Error(`not yet: ${options.directory}`));
  }
  abstract readonly directory: string;
  /** Stores a µVM; resolves once it survives a power cut. Replaces one of the same key and lifts its quarantine. */
  abstract add(draft: UvmDraft, onProgress?: (percent: number) => void): Promise<UvmManifest>;
  /** The µVM of this key, or undefined when there is none or it is in quarantine. */
  abstract find(key: string): Promise<UvmManifest | undefined>;
  abstract list(): Promise<CacheEntry[]>;
  /** Why this µVM is not offered, or undefined. */
  abstract quarantined(key: string): Promise<string | undefined>;
  abstract materialise(key: string): Promise<UvmTemplate>;
  abstract quarantine(key: string, reason: string): Promise<void>;
  abstract remove(key: string): Promise<void>;
  abstract verify(key: string): Promise<VerifyReport>;
  abstract close(): Promise<void>;
}
