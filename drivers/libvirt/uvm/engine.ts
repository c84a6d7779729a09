/**
 * µVMs under libvirt: boots what is to be baked, proves what was baked, and brings servers up as clones.
 *
 * How a clone comes up, and what overlaps what, is `restoreClone`; the steps themselves are in the files beside this one.
 */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { allOrFirstFailure } from '../../../lib/all-or-first-failure';
import { BAKE_NIC_MAC, buildIdentifyMessage, ImageUnsuitable } from '../../../lib/bake';
import { describeError, InstanceNotFound } from '../../../lib/exceptions';
import type { Vif } from '../../../lib/objects';
import type {
  FlavorSpec,
  ProofClone,
  ProofRequest,
  SpawnOutcome,
  SpawnRequest,
  TemplateGuest,
  TemplateRequest,
  UvmPlatform,
  UvmTemplate,
} from '../../driver';
import { fillConfigDrive, reserveConfigDrive } from '../config-drive';
import type { Domain } from '../domain';
import { listDevices } from '../guest-devices';
import type { BaseImage } from '../image-cache';
import type { InstancePaths } from '../instance-store';
import { createExtraDisks, extraDisks, rootSizeBytes } from '../local-disks';
import { bandwidth, ioTune } from '../quotas';
import type { DriverParts, UvmEngine } from '../uvm-engine';
import { portInterface, disk, toXml } from '../xml';
import { CloneGuest } from './clone-guest';
import { growClone, loadClone, startClone } from './clone';
import { readJournal, writeJournal } from './journal';
import { clonedNicXml, configDriveXml, spareNicXml } from './layout';
import { activateDisks, makeSavable } from './migration';
import { readPlatform, type UvmLimits } from './platform';
import { prove } from './proof';
import { makeRootDisk } from './root-disk';
import { BAKE_PREFIX, bootTemplateGuest } from './template-guest';
import { until } from './until';
import { signOfWindows } from './windows';

/** What of the configuration concerns µVMs. */
export interface UvmSettings extends UvmLimits {
  /** For a restored guest to take its identity, `[prebake] gate_timeout_s` * 1000. */
  readonly gateTimeoutMs: number;
}

/** Where libvirt's connection and Nova's paths end and µVMs begin. */
export class LibvirtUvmEngine implements UvmEngine {
  private readonly guests = new Map<string, CloneGuest>();

  constructor(
    private readonly parts: DriverParts,
    private readonly settings: UvmSettings,
  ) {}

  async recover(): Promise<void> {
    for (const domain of await this.parts.connection.listAll()) {
      if (domain.name.startsWith(BAKE_PREFIX)) await this.endIfLeftover(domain);
    }
    for (const uuid of await this.parts.instances.list()) await this.recoverClone(uuid);
  }

  async platform(): Promise<UvmPlatform> {
    const { connection, capabilities, settings } = this.parts;
    return await readPlatform(connection, capabilities(), settings, this.settings);
  }

  async bootTemplate(request: TemplateRequest): Promise<TemplateGuest> {
    const base = await this.parts.images.ensure(request.image, request.signal);
    const windows = await signOfWindows(base, request.directory, request.signal);
    if (windows !== undefined) {
      throw new ImageUnsuitable(
        `the image looks like Windows (${windows}): a µVM becomes a server through cloud-init`,
      );
    }
    return await bootTemplateGuest(this.parts, await this.platform(), request, base);
  }

  async proveTemplate(request: ProofRequest): Promise<ProofClone> {
    const base = await this.parts.images.ensure(request.image, request.signal);
    return await prove(this.parts, request, base, this.settings.gateTimeoutMs);
  }

  /**
   * Restore and network come up side by side and meet when the device state is loaded, the first NIC being part of the machine
   * then. The message with the new identity is in the channel when the guest is resumed; what the flavor adds is plugged in
   * while the guest reads it, NICs without a carrier until it has taken it.
   */
  async restoreClone(
    request: SpawnRequest,
    uvm: UvmTemplate,
    host: { readonly paths: InstancePaths; readonly base: BaseImage; readonly plugged: Promise<void> },
  ): Promise<SpawnOutcome & { readonly how: 'uvm' }> {
    const { instance, timeline, signal } = request;
    const { paths, base } = host;
    const { flavor } = instance;
    const rootBytes = rootSizeBytes(flavor, instance.image, base);
    const addedMemoryMb = flavor.memoryMb - uvm.memoryMb;
    const gateSocketPath = join(paths.directory, 'gate');

    await writeJournal(paths.directory, {
      key: uvm.key,
      step: 'restoring',
      interfaces: [],
      surplus: [],
      coldXml: '',
    });
    const reserved = reserveConfigDrive(paths.configDrive);
    const started = timeline.phase('restore', async () => {
      await allOrFirstFailure([makeRootDisk(paths.disk, uvm.diskDeltaPath, base, signal), reserved]);
      const { uuid, name } = instance;
      const files = {
        directory: paths.directory,
        diskPath: paths.disk,
        drivePath: paths.configDrive,
        consoleLogPath: paths.consoleLog,
      };
      const serialPorts = await this.parts.serialPorts.take(1);
      return await startClone(
        this.parts,
        uvm,
        { uuid, name, gateSocketPath, serialPorts, ioTune: ioTune(flavor), ...files },
        signal,
      );
    });
    // Plugged with the network: a file system on a large one takes its time, and the restore does not wait for it.
    const formatted = createExtraDisks(paths, flavor, signal);
    const networked = timeline.phase('network', async () => {
      const network = await request.network;
      await host.plugged;
      return network;
    });
    const tagged = request.identityWith;
    const identified = timeline.phase('config_drive', async () => {
      const identity = await request.identity;
      await reserved;
      if (identity.configDrive && tagged === undefined)
        await fillConfigDrive(paths.configDrive, identity.files, signal);
      return identity;
    });
    const together = allOrFirstFailure([started, networked, identified, formatted]);
    // From the files of the cold start, which are all there then.
    const described = together.then(async ([, network, { configDrive }]) => {
      if (!configDrive) await rm(paths.configDrive);
      return await this.parts.coldXml(instance, network);
    });
    // For a server without ports.
    const spareNic = spareNicXml(BAKE_NIC_MAC);
    // Not waiting for the rest: Neutron's agent looks for the tap.
    const loaded = allOrFirstFailure([started, networked]).then(async ([domain, network]) => {
      const [first] = network;
      const nic = first === undefined ? spareNic : nicXml(first, 0, flavor, 'down');
      await timeline.phase('load', () => loadClone(domain, uvm, nic, signal));
    });
    const [[domain, network, usual], coldXml] = await allOrFirstFailure([together, described, loaded]);

    const disks = extraDisks(paths, flavor);
    const surplus = [
      ...(network.length === 0 ? [spareNic] : []),
      ...(usual.configDrive ? [] : [configDriveXml(paths.configDrive)]),
    ];
    const interfaces = network.map((vif, index) => nicXml(vif, index, flavor, 'up'));
    const journal = { key: uvm.key, coldXml, interfaces, surplus };
    const guest = new CloneGuest(domain, paths.directory, journal, this.parts.logger);
    this.guests.set(instance.uuid, guest);
    await guest.connect(gateSocketPath, signal);
    const plugIn = (): Promise<void> =>
      timeline.phase('hotplug', async () => {
        await growClone(domain, { vcpus: flavor.vcpus, addedMemoryMb, rootBytes });
        const nics = network.slice(1).map((vif, index) => nicXml(vif, index + 1, flavor, 'down'));
        // In the order of their names in the guest.
        for (const device of [...diskXml(disks, flavor), ...nics]) await domain.attachDevice(device);
      });
    let identity = usual;
    if (tagged !== undefined) {
      // Where the devices are is part of the identity, and so of the drive.
      await activateDisks(domain, uvm.platform.qemuMajorVersion);
      await plugIn();
      identity = await tagged(await listDevices(domain));
      if (identity.configDrive) await fillConfigDrive(paths.configDrive, identity.files, signal);
    }
    const identification = guest.identify(
      buildIdentifyMessage(identity, network, {
        vcpus: flavor.vcpus,
        hotplugMemoryMb: addedMemoryMb,
        rootBytes,
        disks: disks.map(({ sizeBytes }) => sizeBytes),
      }),
      this.settings.gateTimeoutMs,
    );
    signal.throwIfAborted();
    await timeline.phase('resume', () => domain.resume());
    timeline.mark('running');
    identification.identity.then(
      () => timeline.mark('identity'),
      () => undefined,
    );
    const plug = async (): Promise<void> => {
      if (tagged === undefined) await plugIn();
      await makeSavable(domain);
      // From here on the guest has all it needs to become its server, with this service or the next.
      await writeJournal(paths.directory, { ...journal, step: 'personalising' });
      await timeline.phase('vifs', () => request.vifsPlugged(network));
    };
    const plugged = plug();
    plugged.catch(() => undefined);
    const ready = guest.follow(identification, plugged);
    ready.then(
      () => timeline.mark('ready'),
      () => undefined,
    );
    await timeline.phase('define', () => this.parts.connection.defineXml(coldXml));
    await plugged;
    signal.throwIfAborted();
    return { how: 'uvm', ready };
  }

  async settled(uuid: string): Promise<void> {
    const { directory } = this.parts.instances.paths(uuid);
    const never = new AbortController().signal;
    await until('the clone to become its server', this.settings.gateTimeoutMs, never, async () => {
      const journal = await readJournal(directory);
      return journal === undefined || journal.step === 'done';
    });
  }

  async forget(uuid: string): Promise<void> {
    const guest = this.guests.get(uuid);
    this.guests.delete(uuid);
    await guest?.abandon();
  }

  /** A bake or a proof whose scratch is gone has lost its process. */
  private async endIfLeftover(domain: Domain): Promise<void> {
    try {
      const directory = /<prebake:uvm [^>]*directory=["']([^"']+)["']/.exec(await domain.xmlDesc())?.[1];
      if (directory !== undefined && (await isDirectory(directory))) return;
      this.parts.logger.warn({ domain: domain.name }, 'ending what is left of an interrupted bake');
      await domain.destroy();
    } catch (error) {
      if (!(error instanceof InstanceNotFound)) throw error;
    }
  }

  /**
   * Whatever a killed service left of a clone: one that did not run yet is ended (its server is in error or built anew,
   * which is not for the driver to decide), one that was taking its identity is seen through.
   */
  private async recoverClone(uuid: string): Promise<void> {
    const { connection, instances, logger } = this.parts;
    const { directory } = instances.paths(uuid);
    try {
      const journal = await readJournal(directory);
      if (journal === undefined || journal.step === 'done') return;
      const domain = await connection.lookupByUuid(uuid);
      if (journal.step === 'restoring') {
        logger.warn({ instance: uuid }, 'ending a clone whose restore was interrupted');
        await domain.destroy();
        return;
      }
      if (!(await domain.isPersistent())) await connection.defineXml(journal.coldXml);
      const guest = new CloneGuest(domain, directory, journal, logger);
      this.guests.set(uuid, guest);
      // Takes as long as the guest does; the service does not wait for it.
      guest
        .recover(join(directory, 'gate'))
        .catch((error: unknown) =>
          logger.error({ instance: uuid }, `the clone could not be recovered: ${describeError(error)}`),
        );
    } catch (error) {
      if (!(error instanceof InstanceNotFound)) {
        logger.error({ instance: uuid }, `the clone cannot be recovered: ${describeError(error)}`);
      }
    }
  }
}

/** XML of the NIC of a server's port. The first one is the µVM's own. */
function nicXml(vif: Vif, index: number, flavor: FlavorSpec, link: 'up' | 'down'): string {
  const options = { link, bandwidth: bandwidth(flavor) };
  return index === 0 ? clonedNicXml(vif, options) : toXml('interface', portInterface(vif, options));
}

/** XML of the disks a flavor has besides the root, by the names they have in the definition of a cold start. */
function diskXml(disks: readonly { readonly path: string }[], flavor: FlavorSpec): string[] {
  return disks.map(({ path }, index) => {
    const target = `vd${'bc'.charAt(index)}`;
    return toXml('disk', disk({ path, format: 'raw', target, bus: 'virtio', ioTune: ioTune(flavor) }));
  });
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
