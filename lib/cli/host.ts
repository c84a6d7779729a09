/** What the commands need of the host they run on; `open-host.ts` makes it from nova.conf, tests make their own. */
import type { ImageSpec } from '../../drivers/driver';
import type { BakeFailure, Baker } from '../bake';
import type { FollowOptions, Pulled, StoredKey, Transfer } from '../hoard';
import type { Squirrel } from '../squirrel';

/** The part of the cache that commands use. */
export type Cache = Pick<Squirrel, 'find' | 'list' | 'usage' | 'gc' | 'remove' | 'verify' | 'close'>;

/** Everything a bake needs besides the image. */
export interface Bakery {
  readonly baker: Pick<Baker, 'bake' | 'keyOf'>;
  /** By id or by name. Rejects with CommandError when there is none, or more than one of that name. */
  findImage(nameOrId: string, signal: AbortSignal): Promise<ImageSpec & { readonly name: string }>;
  /** Ends what is under way and cleans up after it. */
  close(): Promise<void>;
}

/** This host's cache and the object store beside it. */
export interface HoardAccess {
  readonly cache: Pick<Squirrel, 'list'>;
  /** All µVMs in the store, those of other kinds of hosts among them. */
  stored(signal: AbortSignal): Promise<StoredKey[]>;
  fetch(uvm: StoredKey, options: FollowOptions): Promise<Pulled | 'there' | 'absent'>;
  send(key: string, options: FollowOptions): Promise<Transfer | 'there'>;
  /** The keys that the µVMs of Glance's images have on this host. */
  keysOfImages(signal: AbortSignal): Promise<string[]>;
  /** By id or by name. Rejects with CommandError when there is none, or more than one of that name. */
  keyOfImage(nameOrId: string, signal: AbortSignal): Promise<StoredKey>;
  close(): Promise<void>;
}

/** One compute host, as its nova.conf describes it. */
export interface Host {
  /** `[DEFAULT] host`. */
  readonly name: string;
  readonly configFiles: readonly string[];
  /** Where the running service answers, without a trailing slash. */
  readonly sidecarUrl: string;
  /** What it asks for, `[prebake] sidecar_token`. */
  readonly sidecarToken?: string | null;
  openCache(): Promise<Cache>;
  /** Images that have no µVM because their bake failed, newest first. */
  bakeFailures(): Promise<readonly BakeFailure[]>;
  /** Rejects with CommandError (usage) when µVMs are not shared. */
  openHoard(): Promise<HoardAccess>;
  /** µVMs in the object store; undefined when they are not shared. */
  storedKeys(signal: AbortSignal): Promise<StoredKey[] | undefined>;
  openBakery(): Promise<Bakery & { readonly cache: Cache }>;
}

/** Reads the configuration; rejects with a CommandError (usage) that names every wrong option. */
export type OpenHost = (configFiles: readonly string[]) => Promise<Host>;
