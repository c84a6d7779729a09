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
import { SPARE_NETDEV, SPARES, uvmDomainXml } from './layout';
import { writeDeviceState } from './migration';

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
    drivePath,
    gateSocketPath,
    consoleLogPath,
    serialPorts: [],
    role: { bake: { nicMac: BAKE_NIC_MAC } },
  });
  signal.throwIfAborted();
  const domain = await parts.connection.createXml(xml, { paused: false });
  const paths = { gateSocketPath, consoleLogPath };
  return new BakingGuest(parts.connection, domain, paths, platform.qemuMajorVersion, signal);
}

class BakingGuest implements TemplateGuest {
  readonly spares = SPARES;
  readonly ended: Promise<never>;
  private readonly stopListening: () => void;
  private readonly stopWatching = new AbortController();

  constructor(
    connection: LibvirtConnection,
    private readonly domain: Domain,
    private readonly paths: { readonly gateSocketPath: string; readonly consoleLogPath: string },
    private readonly qemuMajorVersion: number,
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
    const watched = AbortSignal.any([signal, this.stopWatching.signal]);
    watchBoot(domain, paths.consoleLogPath, watched).catch((error: unknown) => {
      // A guest that is gone is the listener's.
      if (!(error instanceof InstanceNotFound)) rejectEnded(error);
    });
  }

  get gateSocketPath(): string {
    return this.paths.gateSocketPath;
  }

  get consoleLogPath(): string {
    return this.paths.consoleLogPath;
  }

  booted(): void {
    this.stopWatching.abort();
  }

  async capture(statePath: string): Promise<void> {
    await this.domain.suspend();
    // QEMU's user network has state of its own, which nothing in a clone could take.
    await this.domain.monitor('netdev_del', { id: SPARE_NETDEV });
    await writeDeviceState(this.domain, statePath, this.qemuMajorVersion, this.signal);
  }

  async destroy(): Promise<void> {
    this.stopWatching.abort();
    this.stopListening();
    try {
      await this.domain.destroy();
    } catch (error) {
      if (!(error instanceof InstanceNotFound)) throw error;
    }
  }
}
