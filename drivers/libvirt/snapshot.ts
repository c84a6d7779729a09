/**
 * A flat copy of a server's root disk as it is at one moment. QEMU copies the disk of a running guest beside it (a backup
 * job of libvirt: nothing is put in the path of the guest's own disk, so nothing has to be taken out again); that of a
 * stopped one is copied by qemu-img. What becomes of the copy is not decided here.
 */
import { chmod, mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  describeError,
  InstanceInvalidState,
  InstanceNotFound,
  InstanceQuiesceNotSupported,
} from '../../lib/exceptions';
import type { DiskSnapshot, InstanceSpec } from '../driver';
import { JobType, type Domain } from './domain';
import { hardwareOf } from './hardware';
import type { InstancePaths } from './instance-store';
import { ErrorCode, isLibvirtError } from './libvirt-error';
import { isOff } from './power';
import { run } from './program';
import type { DriverParts } from './uvm-engine';
import { until } from './uvm/until';
import { readXml } from './xml-reader';
import { toXml } from './xml';

const COPY_TIMEOUT_MS = 2 * 60 * 60_000;

const disksSchema = z.object({
  domain: z.object({
    devices: z.object({
      disk: z
        .array(
          z.object({
            source: z.object({ '@file': z.string().optional() }).optional(),
            target: z.object({ '@dev': z.string() }),
          }),
        )
        .default([]),
    }),
  }),
});

/** Where copies are made: beside the servers' directories, so that they fit where disks fit. */
export function snapshotsDirectory(instancesPath: string): string {
  return join(instancesPath, 'snapshots');
}

/** Removes what an interrupted service left of copies. */
export async function removeSnapshots(instancesPath: string): Promise<void> {
  await rm(snapshotsDirectory(instancesPath), { recursive: true, force: true });
}

/** Copies the root disk. The caller discards the copy; on failure or abort nothing is left of it. */
export async function snapshotRootDisk(
  parts: DriverParts,
  instance: InstanceSpec,
  signal: AbortSignal,
): Promise<DiskSnapshot> {
  const paths = parts.instances.paths(instance.uuid);
  const parent = snapshotsDirectory(parts.settings.default.instancesPath);
  await mkdir(parent, { recursive: true, mode: 0o711 });
  const directory = await mkdtemp(join(parent, 'disk-'));
  const discard = (): Promise<void> => rm(directory, { recursive: true, force: true });
  try {
    // QEMU, as whatever user it runs, has to get to the file; nobody else gets to list it.
    await chmod(directory, 0o711);
    const path = join(directory, 'disk');
    const domain = await parts.connection.lookupByUuid(instance.uuid);
    if (await isOff(domain)) await copyResting(paths, path, signal);
    else await copyLive(parts, domain, instance, paths, path, signal);
    const { size } = await stat(path);
    return { path, diskFormat: 'qcow2', sizeBytes: size, discard };
  } catch (error) {
    await discard();
    throw error;
  }
}

/** Ends a copy that a killed service had under way. */
export async function abandonSnapshot(domain: Domain): Promise<void> {
  try {
    if ((await domain.job()) !== JobType.NONE) await domain.abortJob();
  } catch (error) {
    if (error instanceof InstanceNotFound || isLibvirtError(error, ErrorCode.OPERATION_INVALID)) return;
    throw error;
  }
}

async function copyResting(paths: InstancePaths, to: string, signal: AbortSignal): Promise<void> {
  const args = ['convert', '-t', 'none', '-T', 'none', '-f', 'qcow2', '-O', 'qcow2', paths.disk, to];
  await run('qemu-img', args, { timeoutMs: COPY_TIMEOUT_MS, signal });
}

async function copyLive(
  parts: DriverParts,
  domain: Domain,
  instance: InstanceSpec,
  paths: InstancePaths,
  to: string,
  signal: AbortSignal,
): Promise<void> {
  const xml = toXml('domainbackup', {
    '@mode': 'push',
    disks: {
      disk: {
        '@name': await targetOf(domain, paths.disk),
        '@type': 'file',
        driver: { '@type': 'qcow2' },
        target: { '@file': to },
      },
    },
  });
  // How an earlier job ended would be told first.
  await domain.job({ completed: true });
  const frozen = await freeze(parts, domain, instance);
  try {
    await domain.beginBackup(xml);
  } finally {
    if (frozen) await domain.thawFileSystems();
  }
  try {
    await until(
      'the copy of the disk',
      COPY_TIMEOUT_MS,
      signal,
      async () => (await domain.job()) === JobType.NONE,
    );
  } catch (error) {
    await abandonSnapshot(domain);
    throw error;
  }
  const ended = await domain.job({ completed: true });
  if (ended !== JobType.COMPLETED) {
    throw new InstanceInvalidState(
      `The disk of instance ${domain.uuid} was not copied to its end: the guest stopped`,
    );
  }
}

/** File systems are brought to rest where the image says that its guest can, and must be where it says so. */
async function freeze(parts: DriverParts, domain: Domain, instance: InstanceSpec): Promise<boolean> {
  const required = ['yes', 'true', '1'].includes(
    instance.image.properties.os_require_quiesce?.toLowerCase() ?? '',
  );
  if (!hardwareOf(instance).guestAgent) {
    if (!required) return false;
    throw new InstanceQuiesceNotSupported(
      `Quiescing is not supported in instance ${domain.uuid}: QEMU guest agent is not enabled`,
    );
  }
  try {
    await domain.freezeFileSystems();
    return true;
  } catch (error) {
    if (required) {
      throw new InstanceQuiesceNotSupported(
        `Quiescing is not supported in instance ${domain.uuid}: ${describeError(error)}`,
        { cause: error },
      );
    }
    parts.logger.info({ instance: domain.uuid }, `snapshot without rest: ${describeError(error)}`);
    return false;
  }
}

/** The device name of the disk that is the file `path`. */
async function targetOf(domain: Domain, path: string): Promise<string> {
  const { disk } = readXml(await domain.xmlDesc(), disksSchema).domain.devices;
  const found = disk.find(({ source }) => source?.['@file'] === path);
  if (found === undefined) throw new InstanceInvalidState(`Instance ${domain.uuid} has no disk ${path}`);
  return found.target['@dev'];
}
