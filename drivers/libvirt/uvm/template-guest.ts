/** The guest that is being baked: from its first boot to the capture of its state. */
import { randomBytes, randomUUID } from 'node:crypto';
import { chown, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BAKE_NIC_MAC } from '../../../lib/bake';
import { InstanceNotFound } from '../../../lib/exceptions';
import type { TemplateGuest, TemplateRequest, UvmPlatform } from '../../driver';
import { writeConfigDrive } from '../config-drive';
import type { LibvirtConnection } from '../connection';
import type { Domain } from '../domain';
import type { BaseImage } from '../image-cache';
import { createOverlay } from '../local-disks';
import type { DriverParts } from '../uvm-engine';
import { watchBoot } from './boot-watch';
import { BAKE_ALIASES, bakeDriveXml, bakeNicXml, uvmDomainXml } from './layout';
import { writeDeviceState } from './migration';

const DETACH_TIMEOUT_MS = 60_000;
/** Bakes and proofs go by names of their own, so that they are never taken for servers. */
export const BAKE_PREFIX = 'prebake-';

/** Starts the guest; its RAM is a file from the first instruction on. */
export async function bootTemplateGuest(
  parts: DriverParts,
  platform: UvmPlatform,
  request: TemplateRequest,
  base: BaseImage,
): Promise<TemplateGuest> {
  const { signal } = request;
  const drivePath = join(request.directory, 'config.iso');
  const gateSocketPath = join(request.directory, 'gate');
  const consoleLogPath = join(request.directory, 'console.log');
  await writeConfigDrive(drivePath, request.files, signal);
  await createOverlay(request.diskDeltaPath, base, base.virtualSizeBytes, signal);
  await writeFile(request.ramPath, '', { flag: 'wx', mode: 0o644 });
  await truncate(request.ramPath, request.memoryMb * 1024 * 1024);
  const { emulatorPath, qemuUser } = parts.capabilities();
  await chown(request.ramPath, qemuUser.uid, qemuUser.gid);
  const xml = uvmDomainXml({
    name: `${BAKE_PREFIX}bake-${randomBytes(4).toString('hex')}`,
    uuid: randomUUID(),
    memoryMb: request.memoryMb,
    platform,
    settings: parts.settings,
    emulatorPath,
    ramPath: request.ramPath,
    directory: request.directory,
    diskPath: request.diskDeltaPath,
    gateSocketPath,
    consoleLogPath,
    serialPorts: [],
    role: { bake: { drivePath, nicMac: BAKE_NIC_MAC } },
  });
  signal.throwIfAborted();
  const domain = await parts.connection.createXml(xml, { paused: false });
  return new BakingGuest(parts.connection, domain, drivePath, gateSocketPath, consoleLogPath, signal);
}

class BakingGuest implements TemplateGuest {
  readonly ended: Promise<never>;
  private readonly stopListening: () => void;
  private readonly booted = new AbortController();

  constructor(
    private readonly connection: LibvirtConnection,
    private readonly domain: Domain,
    private readonly drivePath: string,
    readonly gateSocketPath: string,
    readonly consoleLogPath: string,
    private readonly signal: AbortSignal,
  ) {
    let rejectEnded: (error: unknown) => void = () => undefined;
    this.ended = new Promise<never>((_resolve, reject) => (rejectEnded = reject));
    this.ended.catch(() => undefined);
    this.stopListening = connection.onDomainEvent((event) => {
      if (event.uuid !== domain.uuid) return;
      if (event.kind === 'stopped' || event.kind === 'crashed') {
        rejectEnded(new Error('the image switched itself off, or restarted, during its first boot'));
      }
    });
    const watched = AbortSignal.any([signal, this.booted.signal]);
    watchBoot(domain, consoleLogPath, watched).catch((error: unknown) => {
      // A guest that is gone is the listener's.
      if (!(error instanceof InstanceNotFound)) rejectEnded(error);
    });
  }

  async detachBakeDevices(): Promise<void> {
    this.booted.abort();
    await Promise.all([
      this.detach(BAKE_ALIASES.drive, bakeDriveXml(this.drivePath)),
      this.detach(BAKE_ALIASES.nic, bakeNicXml(BAKE_NIC_MAC)),
    ]);
  }

  async capture(statePath: string): Promise<void> {
    await this.domain.suspend();
    await writeDeviceState(this.domain, statePath, this.signal);
  }

  async destroy(): Promise<void> {
    this.booted.abort();
    this.stopListening();
    try {
      await this.domain.destroy();
    } catch (error) {
      if (!(error instanceof InstanceNotFound)) throw error;
    }
  }

  /** Resolves when the guest let go of the device. */
  private async detach(alias: string, xml: string): Promise<void> {
    let stop = (): void => undefined;
    let timer: NodeJS.Timeout | undefined;
    const removed = new Promise<void>((resolve, reject) => {
      stop = this.connection.onDomainEvent((event) => {
        if (event.kind === 'device-removed' && event.uuid === this.domain.uuid && event.alias === alias)
          resolve();
      });
      timer = setTimeout(
        () => reject(new Error(`the guest did not let go of ${alias} in ${DETACH_TIMEOUT_MS} ms`)),
        DETACH_TIMEOUT_MS,
      );
    });
    removed.catch(() => undefined);
    try {
      await this.domain.detachDevice(xml);
      await Promise.race([removed, this.ended]);
    } finally {
      stop();
      clearTimeout(timer);
    }
  }
}
