/**
 * The seam between this driver and the part of it that restores µVMs: what a restore gets to work with, and what it owes.
 */
import type { Logger } from 'pino';
import type { NetworkInfo } from '../../lib/objects';
import type { InstanceSpec, SpawnOutcome, SpawnRequest, TemplateDriver, UvmTemplate } from '../driver';
import type { LibvirtConnection } from './connection';
import type { SerialPorts } from './consoles';
import type { HostCapabilities } from './host-capabilities';
import type { BaseImage, ImageCache } from './image-cache';
import type { InstancePaths, InstanceStore } from './instance-store';
import type { DriverSettings } from './settings';

/** What the driver is made of; everything in it may be used by restores and bakes. */
export interface DriverParts {
  readonly settings: DriverSettings;
  readonly connection: LibvirtConnection;
  readonly capabilities: () => HostCapabilities;
  readonly images: ImageCache;
  readonly instances: InstanceStore;
  /** XML of a server's cold start from the files it has now: what a restored one is defined with for its later life. */
  readonly coldXml: (instance: InstanceSpec, network: NetworkInfo) => Promise<string>;
  readonly serialPorts: SerialPorts;
  readonly logger: Logger;
}

/** Restores µVMs for `spawn`, and makes and proves them for the baker. */
export interface UvmEngine extends TemplateDriver {
  /** Puts in order what a crash left of restores and bakes; the connection stands. */
  recover(): Promise<void>;
  /**
   * Brings a server up from a µVM and leaves it defined with its cold XML. `base` is the image of the µVM; bridges of
   * `request.network` exist once that promise and `plugged` have settled. On failure the caller removes the domain and
   * everything in `paths`, so a restore undoes only what lies elsewhere.
   */
  restoreClone(
    request: SpawnRequest,
    uvm: UvmTemplate,
    host: { readonly paths: InstancePaths; readonly base: BaseImage; readonly plugged: Promise<void> },
  ): Promise<SpawnOutcome & { readonly how: 'uvm' }>;
  /** Resolves when a clone has become its server, at once for other servers; rejects when that takes too long. */
  settled(uuid: string): Promise<void>;
  /** Removes what a clone has outside of its directory and domain. Idempotent; also called for servers that are no clones. */
  forget(uuid: string): Promise<void>;
}
