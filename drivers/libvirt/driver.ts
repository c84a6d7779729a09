/**
 * The compute driver for libvirt: what each operation of Nova's contract consists of. How the parts work is in the files
 * named after them.
 */
import { mkdir } from 'node:fs/promises';
import type { Logger } from 'pino';
import {
  describeError,
  HypervisorUnavailable,
  InstanceInvalidState,
  InstanceNotFound,
  UEFINotSupported,
  VirtualInterfaceCreateException,
} from '../../lib/exceptions';
import type { NetworkInfo, Vif } from '../../lib/objects';
import { PowerState } from '../driver';
import type {
  ComputeDriver,
  ConsoleAddress,
  ConsoleType,
  GuestDevice,
  GuestDiagnostics,
  DiskSnapshot,
  HostResources,
  ImageSpec,
  InstanceSpec,
  LifecycleEvent,
  SpawnOutcome,
  ProofClone,
  ProofRequest,
  SpawnRequest,
  TemplateDriver,
  TemplateGuest,
  TemplateRequest,
  RescueRequest,
  UvmPlatform,
  UvmTemplate,
} from '../driver';
import { deleteTap, ensureBridges } from './bridge';
import { spawnCold } from './cold-spawn';
import { LibvirtConnection } from './connection';
import { readConsoleLog } from './console-log';
import { consoleAddress, SerialPorts } from './consoles';
import { Discards } from './discards';
import type { Domain } from './domain';
import type { DomainEvent } from './domain-events';
import { readDiagnostics } from './diagnostics';
import { coldDomainXml, interfaceOptions } from './domain-xml';
import { setAdminPassword, setQuiesced, syncGuestTime, triggerCrashDump } from './guest-agent';
import { listDevices } from './guest-devices';
import { hardwareOf, serialPortCount } from './hardware';
import { readHostCapabilities, type HostCapabilities } from './host-capabilities';
import { readHostResources } from './host-resources';
import { HostUptime } from './host-uptime';
import { ImageCache, type ImageSource } from './image-cache';
import { exists, InstanceStore, type InstancePaths } from './instance-store';
import { attachInterface, detachInterface } from './interfaces';
import { probeAccelerator } from './kvm-probe';
import { restoreGuest, saveGuest } from './managed-save';
import { isOff, pause, powerStateOf, pullPlug, shutDown, unpause } from './power';
import { isStableRescue, makeRescueFiles, removeRescueFiles, rescueDisks, type RescueDisks } from './rescue';
import { growDisks, setDisksAside } from './resize';
import type { DriverSettings } from './settings';
import { abandonSnapshot, removeSnapshots, snapshotRootDisk } from './snapshot';
import { removeUnusedImages } from './unused-images';
import type { DriverParts, UvmEngine } from './uvm-engine';
import {
  checkVtpmSupport,
  forgetVtpmSecret,
  forgetVtpmState,
  keepSameVtpm,
  restoreVtpmState,
  withVtpmSecret,
} from './vtpm';
import { viewDomain } from './xml-reader';

const DEFAULT_URI = 'qemu:///system';
/** VIR_DOMAIN_EVENT_STOPPED_CRASHED */
const STOPPED_BY_CRASH = 2;

export interface DriverOptions {
  readonly config: DriverSettings;
  readonly glance: ImageSource;
  readonly logger: Logger;
  /** Makes the part that bakes and restores µVMs; without it every server boots cold. */
  readonly uvm?: (parts: DriverParts) => UvmEngine;
}

/** Runs servers as libvirt domains. */
export class LibvirtDriver implements ComputeDriver, TemplateDriver {
  private readonly lifecycleListeners = new Set<(event: LifecycleEvent) => void>();
  /** Servers whose power this driver is changing right now: what they do is no news. */
  private readonly busy = new Map<string, number>();
  private openConnection: LibvirtConnection | undefined;
  private openParts: DriverParts | undefined;
  private capabilities: HostCapabilities | undefined;
  private uvm: UvmEngine | undefined;
  private readonly images: ImageCache;
  private readonly instances: InstanceStore;
  private readonly uptime = new HostUptime();
  private readonly discards: Discards;
  private readonly serialPorts: SerialPorts;

  private constructor(private readonly options: DriverOptions) {
    const { config, glance, logger } = options;
    this.serialPorts = new SerialPorts(config.serialConsole);
    this.instances = new InstanceStore(config.default.instancesPath);
    this.discards = new Discards(this.instances, (uuid) => this.removeAll(uuid), logger);
    this.images = new ImageCache(config.default.instancesPath, glance, {
      forceRaw: config.default.forceRawImages,
      logger,
    });
  }

  /** Makes a driver; it touches nothing before `connect` or `initHost`. */
  static create(options: DriverOptions): LibvirtDriver {
    return new LibvirtDriver(options);
  }

  /** What the driver is made of, for bakes. @throws HypervisorUnavailable before `connect` */
  get parts(): DriverParts {
    if (this.openParts === undefined)
      throw new HypervisorUnavailable('The driver is not connected to libvirtd yet');
    return this.openParts;
  }

  async initHost(): Promise<void> {
    await checkVtpmSupport(this.options.config);
    await this.connect();
    try {
      if (this.options.config.libvirt.swtpmEnabled) await this.forgetVtpmSecrets();
      await this.images.removeUnfinished();
      await this.discards.settle();
      // A spawn that lost libvirtd could not clean up after itself.
      this.connection.onState((state) => {
        if (state === 'connected') void this.discards.settle();
      });
      await removeSnapshots(this.options.config.default.instancesPath);
      await this.uvm?.recover();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /**
   * Connects and finds out what this host can do; what others left or are doing here stays as it is. Enough for a bake
   * beside a running service.
   * @throws as `initHost`
   */
  async connect(): Promise<void> {
    const { config, logger } = this.options;
    const { virtType, connectionUri } = config.libvirt;
    await mkdir(config.default.instancesPath, { recursive: true });
    const connection = await LibvirtConnection.open({ uri: connectionUri || DEFAULT_URI, logger });
    try {
      const capabilities = await readHostCapabilities(connection, virtType);
      if (virtType === 'kvm') await probeAccelerator(capabilities.emulatorPath);
      connection.onDomainEvent((event) => this.onDomainEvent(event));
      this.openConnection = connection;
      this.capabilities = capabilities;
      this.openParts = {
        settings: config,
        connection,
        capabilities: () => capabilities,
        images: this.images,
        instances: this.instances,
        coldXml: (instance, network) => this.coldXml(instance, network),
        serialPorts: this.serialPorts,
        logger,
      };
      this.uvm = this.options.uvm?.(this.openParts);
    } catch (error) {
      this.openConnection = undefined;
      this.openParts = undefined;
      await connection.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.openConnection?.close();
  }

  async ping(): Promise<void> {
    await this.connection.ping();
  }

  onLifecycle(listener: (event: LifecycleEvent) => void): void {
    this.lifecycleListeners.add(listener);
  }

  onConnection(listener: (connected: boolean) => void): void {
    this.connection.onState((state) => {
      if (state !== 'closed') listener(state === 'connected');
    });
  }

  async removeUnusedImages(imagesInUse: ReadonlySet<string>, minimumAgeMs: number): Promise<number> {
    return await removeUnusedImages({
      baseDirectory: this.images.directory,
      instancesDirectory: this.instances.directory,
      imagesInUse,
      minimumAgeMs,
      logger: this.options.logger,
    });
  }

  async getAvailableResource(): Promise<HostResources> {
    const { connection, capabilities } = this.parts;
    return await readHostResources(connection, capabilities(), this.options.config, this.instances);
  }

  getHostUptime(): Promise<string> {
    return this.uptime.line();
  }

  async listInstanceUuids(): Promise<string[]> {
    return (await this.connection.listAll()).map((domain) => domain.uuid);
  }

  async getPowerState(uuid: string): Promise<PowerState> {
    const domain = await this.connection.lookupByUuid(uuid);
    return powerStateOf((await domain.state()).state);
  }

  async spawn(request: SpawnRequest): Promise<SpawnOutcome> {
    const { instance, template, signal } = request;
    // Whoever fails first decides; the others' failures are then nobody's.
    request.network.catch(() => undefined);
    request.identity.catch(() => undefined);
    return await this.busyWith(instance.uuid, async () => {
      try {
        let why = 'none' in template ? template.none : 'µVMs are not in use on this host';
        if ('uvm' in template && this.uvm !== undefined) {
          const outcome = await this.tryRestore(this.uvm, request, template.uvm);
          if (typeof outcome !== 'string') return outcome;
          why = outcome;
        }
        signal.throwIfAborted();
        return await spawnCold(request, this.parts, await this.instances.create(instance.uuid), why);
      } catch (error) {
        await this.discards.discard(instance.uuid);
        throw error;
      }
    });
  }

  async destroy(instance: Pick<InstanceSpec, 'uuid' | 'name'>): Promise<void> {
    await this.busyWith(instance.uuid, () => this.removeAll(instance.uuid));
  }

  async powerOff(uuid: string, timeoutMs: number): Promise<void> {
    await this.busyWith(uuid, async () => {
      const domain = await this.connection.lookupByUuid(uuid);
      if (await isOff(domain)) return;
      await this.uvm?.forget(uuid);
      // A paused guest cannot react to the button.
      const asked = timeoutMs > 0 && (await this.getPowerState(uuid)) === PowerState.RUNNING;
      if (asked && (await shutDown(this.connection, domain, timeoutMs))) return;
      await pullPlug(domain);
    });
  }

  async powerOn(instance: InstanceSpec, network: NetworkInfo): Promise<void> {
    await this.busyWith(instance.uuid, async () => {
      const domain = await this.connection.lookupByUuid(instance.uuid);
      if (await isOff(domain)) await this.startAfresh(domain, instance, network);
      else await unpause(domain);
    });
  }

  async softReboot(instance: InstanceSpec, timeoutMs: number): Promise<boolean> {
    const { uuid } = instance;
    return await this.busyWith(uuid, async () => {
      const domain = await this.connection.lookupByUuid(uuid);
      await this.uvm?.forget(uuid);
      if (!(await shutDown(this.connection, domain, timeoutMs))) return false;
      await this.start(domain, instance);
      return true;
    });
  }

  async hardReboot(instance: InstanceSpec, network: NetworkInfo): Promise<void> {
    await this.busyWith(instance.uuid, async () => {
      const domain = await this.connection.lookupByUuid(instance.uuid);
      await this.uvm?.forget(instance.uuid);
      if (!(await isOff(domain))) await pullPlug(domain);
      await this.startAfresh(domain, instance, network);
    });
  }

  async pause(uuid: string): Promise<void> {
    await this.busyWith(uuid, async () => pause(await this.connection.lookupByUuid(uuid)));
  }

  async unpause(uuid: string): Promise<void> {
    await this.busyWith(uuid, async () => unpause(await this.connection.lookupByUuid(uuid)));
  }

  async snapshot(instance: InstanceSpec, signal: AbortSignal): Promise<DiskSnapshot> {
    return await snapshotRootDisk(this.parts, instance, signal);
  }

  async cacheImage(image: ImageSpec, signal = new AbortController().signal): Promise<boolean> {
    if (await this.images.has(image)) return false;
    await this.images.ensure(image, signal);
    return true;
  }

  async abandonSnapshot(uuid: string): Promise<void> {
    await abandonSnapshot(await this.connection.lookupByUuid(uuid));
  }

  async rescue(request: RescueRequest): Promise<void> {
    const { instance, image, network } = request;
    await this.busyWith(instance.uuid, async () => {
      const domain = await this.connection.lookupByUuid(instance.uuid);
      const paths = this.instances.paths(instance.uuid);
      const disks = rescueDisks(request, paths, await extraDisksOf(paths));
      await this.uvm?.forget(instance.uuid);
      try {
        await makeRescueFiles(this.parts, domain, request);
        // The guest is the rescue image's, unless that only lends its disk.
        const guest = isStableRescue(image) ? instance : { ...instance, image };
        const xml = await this.coldXml(guest, network, disks);
        if (!(await isOff(domain))) await pullPlug(domain);
        await this.startDefined(domain, xml, instance, network);
      } catch (error) {
        await removeRescueFiles(paths);
        throw error;
      }
    });
  }

  async unrescue(instance: InstanceSpec, network: NetworkInfo): Promise<void> {
    await this.busyWith(instance.uuid, async () => {
      const domain = await this.connection.lookupByUuid(instance.uuid);
      if (!(await isOff(domain))) await pullPlug(domain);
      await this.startAfresh(domain, instance, network);
      await removeRescueFiles(this.instances.paths(instance.uuid));
    });
  }

  async migrateDisk(uuid: string, signal: AbortSignal): Promise<void> {
    const domain = await this.connection.lookupByUuid(uuid);
    if (!(await isOff(domain))) throw new InstanceInvalidState(`Instance ${uuid} is still running`);
    await setDisksAside(this.instances, uuid, signal);
  }

  async finishMigration(instance: InstanceSpec, network: NetworkInfo, powerOn: boolean): Promise<void> {
    await this.busyWith(instance.uuid, async () => {
      const domain = await this.connection.lookupByUuid(instance.uuid);
      await growDisks(this.instances.paths(instance.uuid), instance.flavor);
      await keepSameVtpm(instance, await domain.xmlDesc({ inactive: true }));
      await this.define(instance, network, powerOn);
    });
  }

  async finishRevertMigration(instance: InstanceSpec, network: NetworkInfo, powerOn: boolean): Promise<void> {
    await this.busyWith(instance.uuid, async () => {
      const domain = await this.connection.lookupByUuid(instance.uuid);
      if (await this.instances.hasAside(instance.uuid)) {
        if (!(await isOff(domain))) await pullPlug(domain);
        await this.instances.putBack(instance.uuid);
      }
      if (!(await isOff(domain))) return;
      const { directory } = this.instances.paths(instance.uuid);
      await restoreVtpmState(instance, directory, this.options.config.libvirt);
      await this.define(instance, network, powerOn);
    });
  }

  async confirmMigration(uuid: string): Promise<void> {
    await this.instances.forgetAside(uuid);
  }

  async suspend(uuid: string): Promise<void> {
    await this.busyWith(uuid, async () => {
      await this.uvm?.settled(uuid);
      await this.uvm?.forget(uuid);
      await saveGuest(await this.connection.lookupByUuid(uuid));
    });
  }

  async resume(instance: InstanceSpec, network: NetworkInfo): Promise<void> {
    await this.busyWith(instance.uuid, async () => {
      const domain = await this.connection.lookupByUuid(instance.uuid);
      await ensureBridges(network);
      await withVtpmSecret(this.connection, instance, () => restoreGuest(domain));
      await syncGuestTime(domain, instance, this.options.logger);
    });
  }

  async attachInterface(instance: InstanceSpec, vif: Vif): Promise<void> {
    // Until then its NICs are the restore's.
    await this.uvm?.settled(instance.uuid);
    const domain = await this.connection.lookupByUuid(instance.uuid);
    await attachInterface(domain, vif, interfaceOptions(instance, this.options.config));
  }

  async detachInterface(uuid: string, vif: Vif): Promise<void> {
    await this.uvm?.settled(uuid);
    await detachInterface(this.connection, await this.connection.lookupByUuid(uuid), vif);
  }

  async listDevices(uuid: string): Promise<readonly GuestDevice[]> {
    return await listDevices(await this.connection.lookupByUuid(uuid));
  }

  async getDiagnostics(uuid: string): Promise<GuestDiagnostics> {
    return await readDiagnostics(await this.connection.lookupByUuid(uuid));
  }

  async setAdminPassword(instance: InstanceSpec, password: string): Promise<void> {
    await setAdminPassword(await this.connection.lookupByUuid(instance.uuid), instance, password);
  }

  async quiesce(instance: InstanceSpec): Promise<void> {
    await setQuiesced(await this.connection.lookupByUuid(instance.uuid), instance, true);
  }

  async unquiesce(instance: InstanceSpec): Promise<void> {
    await setQuiesced(await this.connection.lookupByUuid(instance.uuid), instance, false);
  }

  async triggerCrashDump(uuid: string): Promise<void> {
    await triggerCrashDump(await this.connection.lookupByUuid(uuid));
  }

  async getConsoleOutput(uuid: string, tailLines: number | null): Promise<string> {
    const { consoleLog } = this.instances.paths(uuid);
    await this.connection.lookupByUuid(uuid);
    return await readConsoleLog(consoleLog, tailLines);
  }

  async getConsole(uuid: string, type: ConsoleType): Promise<ConsoleAddress> {
    const domain = await this.connection.lookupByUuid(uuid);
    return consoleAddress(type, uuid, await domain.xmlDesc(), this.options.config);
  }

  async platform(): Promise<UvmPlatform> {
    return await this.engine.platform();
  }

  async bootTemplate(request: TemplateRequest): Promise<TemplateGuest> {
    return await this.engine.bootTemplate(request);
  }

  async proveTemplate(request: ProofRequest): Promise<ProofClone> {
    return await this.engine.proveTemplate(request);
  }

  private get engine(): UvmEngine {
    if (this.uvm === undefined) throw new HypervisorUnavailable('The driver does not make µVMs (yet)');
    return this.uvm;
  }

  private get connection(): LibvirtConnection {
    return this.parts.connection;
  }

  /** @returns the outcome, or why it has to be a cold boot; nothing is left of the attempt then */
  private async tryRestore(
    engine: UvmEngine,
    request: SpawnRequest,
    uvm: UvmTemplate,
  ): Promise<SpawnOutcome | string> {
    const { instance, signal } = request;
    // The restore waits for it where it needs the taps; a failure before that is reported by the restore itself.
    const plugged = request.network.then((network) => ensureBridges(network));
    plugged.catch(() => undefined);
    const base = await this.images.ensure(instance.image, signal);
    try {
      const paths = await this.instances.create(instance.uuid);
      return await engine.restoreClone(request, uvm, { paths, base, plugged });
    } catch (error) {
      signal.throwIfAborted();
      // A port that is not wired would not be for a cold boot either.
      if (error instanceof VirtualInterfaceCreateException) throw error;
      const why = `restoring µVM ${uvm.key} failed: ${describeError(error)}`;
      this.options.logger.error(
        { err: error, instance: instance.uuid, uvm: uvm.key },
        'booting cold instead',
      );
      await this.removeAll(instance.uuid);
      return why;
    }
  }

  /** Defines a stopped server anew and starts it. */
  private async startAfresh(domain: Domain, instance: InstanceSpec, network: NetworkInfo): Promise<void> {
    await this.startDefined(domain, await this.coldXml(instance, network), instance, network);
  }

  /** Defines a stopped server anew, and starts it if it is to run. */
  private async define(instance: InstanceSpec, network: NetworkInfo, powerOn: boolean): Promise<void> {
    const xml = await this.coldXml(instance, network);
    await ensureBridges(network);
    const domain = await this.connection.defineXml(xml);
    if (powerOn) await this.start(domain, instance);
  }

  private async startDefined(
    domain: Domain,
    xml: string,
    instance: InstanceSpec,
    network: NetworkInfo,
  ): Promise<void> {
    await ensureBridges(network);
    // A transient domain (a clone whose service died before it was defined) is gone with its guest.
    await domain.removeManagedSave().catch(ignoreNotFound);
    await this.start(await this.connection.defineXml(xml), instance);
  }

  private async start(domain: Domain, instance: InstanceSpec): Promise<void> {
    await withVtpmSecret(this.connection, instance, () => domain.start({ paused: false }));
  }

  /** What a service that was killed while it started guests left in libvirtd's memory. */
  private async forgetVtpmSecrets(): Promise<void> {
    for (const uuid of await this.instances.list()) await forgetVtpmSecret(this.connection, uuid);
  }

  private async coldXml(instance: InstanceSpec, network: NetworkInfo, rescue?: RescueDisks): Promise<string> {
    const paths = this.instances.paths(instance.uuid);
    const capabilities = this.parts.capabilities();
    if (!capabilities.uefi && hardwareOf(instance).firmware === 'uefi') {
      throw new UEFINotSupported('UEFI is not supported');
    }
    return coldDomainXml({
      instance,
      network,
      paths,
      extras: await extraDisksOf(paths),
      serialPorts: await this.serialPorts.take(serialPortCount(instance)),
      settings: this.options.config,
      emulatorPath: capabilities.emulatorPath,
      machineType: capabilities.machineType,
      ...(rescue === undefined ? {} : { rescue }),
    });
  }

  /** Removes domain, taps and files of a server; what is not there is fine. */
  private async removeAll(uuid: string): Promise<void> {
    await this.uvm?.forget(uuid);
    try {
      const domain = await this.connection.lookupByUuid(uuid);
      const { taps } = viewDomain(await domain.xmlDesc());
      await pullPlug(domain);
      await domain.undefine().catch(ignoreNotFound);
      for (const tap of taps) await deleteTap(tap);
    } catch (error) {
      if (!(error instanceof InstanceNotFound)) throw error;
    }
    await forgetVtpmState(uuid);
    await this.instances.remove(uuid);
  }

  private async busyWith<T>(uuid: string, work: () => Promise<T>): Promise<T> {
    this.busy.set(uuid, (this.busy.get(uuid) ?? 0) + 1);
    try {
      return await work();
    } finally {
      const others = (this.busy.get(uuid) ?? 1) - 1;
      if (others === 0) this.busy.delete(uuid);
      else this.busy.set(uuid, others);
    }
  }

  /** An event may trail the operation that caused it: who reacts compares with the state, as Nova's manager does. */
  private onDomainEvent(event: DomainEvent): void {
    const kind = lifecycleKind(event);
    if (kind === null || this.busy.has(event.uuid)) return;
    for (const listener of this.lifecycleListeners) listener({ uuid: event.uuid, kind });
  }
}

function lifecycleKind(event: DomainEvent): LifecycleEvent['kind'] | null {
  switch (event.kind) {
    case 'started':
    case 'resumed':
    case 'crashed':
      return event.kind;
    case 'stopped':
      return event.detail === STOPPED_BY_CRASH ? 'crashed' : 'stopped';
    case 'suspended':
      return 'paused';
    case 'defined':
    case 'undefined':
    case 'shutdown':
    case 'pmsuspended':
    case 'device-removed':
      return null;
  }
}

async function extraDisksOf(
  paths: InstancePaths,
): Promise<{ ephemeral: boolean; swap: boolean; configDrive: boolean }> {
  const [ephemeral, swap, configDrive] = await Promise.all(
    [paths.ephemeral, paths.swap, paths.configDrive].map(exists),
  );
  return { ephemeral: ephemeral === true, swap: swap === true, configDrive: configDrive === true };
}

function ignoreNotFound(error: unknown): void {
  if (!(error instanceof InstanceNotFound)) throw error;
}
