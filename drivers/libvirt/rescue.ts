/**
 * Booting a server from another image to repair it, as Nova's libvirt driver does (nova/virt/libvirt/driver.py, rescue).
 *
 * An ordinary rescue puts the rescue disk in the place of the root disk, which comes second, and leaves the server's other
 * disks out. A stable device rescue, which the rescue image asks for, leaves every disk where it is and adds one at the
 * end to boot from.
 */
import { rm, writeFile } from 'node:fs/promises';
import { UnsupportedRescueBus, UnsupportedRescueDevice } from '../../lib/exceptions';
import type { ImageSpec, RescueRequest } from '../driver';
import { writeConfigDrive } from './config-drive';
import type { Domain } from './domain';
import { usualDisks, type ExtraDisks } from './domain-xml';
import { devicePrefix, DISK_BUSES, hardwareOf } from './hardware';
import type { InstancePaths } from './instance-store';
import { createOverlay } from './local-disks';
import { inject } from './injection';
import type { DriverParts } from './uvm-engine';
import { disk, type DiskBus, type XmlNode } from './xml';

/** What a rescue image can be plugged in as. */
interface StableDevice {
  readonly device: 'disk' | 'cdrom';
  readonly bus: DiskBus;
}

/** The disks of a rescued server's domain, and the bus of the one it boots from. */
export interface RescueDisks {
  readonly disks: readonly XmlNode[];
  readonly bus: DiskBus;
}

const RESCUE_BUSES: readonly DiskBus[] = [...DISK_BUSES, 'usb'];
const LETTERS = 'a b c d e f g h i j k l m n o p q r s t u v w x y z'.split(' ');

/** Whether the image asks for a stable device rescue (nova/virt/hardware.py, check_hw_rescue_props). */
export function isStableRescue({ properties }: ImageSpec): boolean {
  return properties.hw_rescue_device !== undefined || properties.hw_rescue_bus !== undefined;
}

/** Makes the files of a rescue, after noting what the server was before. */
export async function makeRescueFiles(
  parts: DriverParts,
  domain: Domain,
  request: RescueRequest,
): Promise<void> {
  const { image, identity, signal } = request;
  const paths = parts.instances.paths(request.instance.uuid);
  await writeFile(paths.unrescueXml, await domain.xmlDesc({ inactive: true, secure: true }), { mode: 0o600 });
  const base = await parts.images.ensure(image, signal);
  await rm(paths.rescueDisk, { force: true });
  await createOverlay(paths.rescueDisk, base, base.virtualSizeBytes, signal);
  if (identity.configDrive) await writeConfigDrive(paths.rescueConfigDrive, identity.files, signal);
  await inject(parts, paths.rescueDisk, identity, signal);
}

/** Removes the files of a rescue, the note that there is one last. Idempotent. */
export async function removeRescueFiles(paths: InstancePaths): Promise<void> {
  for (const path of [paths.rescueDisk, paths.rescueConfigDrive, paths.unrescueXml])
    await rm(path, { force: true });
}

/** @throws UnsupportedRescueDevice, UnsupportedRescueBus */
export function rescueDisks(request: RescueRequest, paths: InstancePaths, extras: ExtraDisks): RescueDisks {
  return isStableRescue(request.image)
    ? stableDisks(request, paths, extras)
    : disksInPlace(request, paths, request.identity.configDrive);
}

function disksInPlace({ instance, image }: RescueRequest, paths: InstancePaths, drive: boolean): RescueDisks {
  const { diskBus: bus } = hardwareOf({ ...instance, image });
  const prefix = devicePrefix(bus);
  const rescue = disk({
    path: paths.rescueDisk,
    format: 'qcow2',
    bus,
    target: `${prefix}a`,
    bootOrder: 1,
  });
  const root = disk({ path: paths.disk, format: 'qcow2', bus, target: `${prefix}b` });
  const [, ...configDrive] = usualDisks(
    {
      instance,
      paths: { ...paths, configDrive: paths.rescueConfigDrive },
      extras: { ephemeral: false, swap: false, configDrive: drive },
    },
    { diskBus: bus },
  );
  return { disks: [rescue, root, ...configDrive], bus };
}

function stableDisks(
  { instance, image }: RescueRequest,
  paths: InstancePaths,
  extras: ExtraDisks,
): RescueDisks {
  const usual = usualDisks({ instance, paths, extras }, hardwareOf(instance));
  const { device, bus } = stableDevice(image);
  const taken = new Set(usual.map((node) => targetOf(node)));
  const target = LETTERS.map((letter) => `${devicePrefix(bus)}${letter}`).find((name) => !taken.has(name));
  if (target === undefined)
    throw new UnsupportedRescueBus(`There is no room for a rescue device on bus ${bus}`);
  const readonly = device === 'cdrom';
  const rescue = disk({
    path: paths.rescueDisk,
    format: 'qcow2',
    bus,
    device,
    target,
    readonly,
    bootOrder: 1,
  });
  return { disks: [...usual, rescue], bus };
}

function stableDevice({ properties }: ImageSpec): StableDevice {
  const device = properties.hw_rescue_device ?? 'disk';
  if (device !== 'disk' && device !== 'cdrom') {
    throw new UnsupportedRescueDevice(`Requested rescue device '${device}' is not supported`);
  }
  const usual =
    device === 'cdrom' ? (properties.hw_cdrom_bus ?? 'ide') : (properties.hw_disk_bus ?? 'virtio');
  const wanted = properties.hw_rescue_bus ?? usual;
  const bus = RESCUE_BUSES.find((known) => known === wanted);
  // A CD-ROM is no virtio device.
  if (bus === undefined || (device === 'cdrom' && bus === 'virtio')) {
    throw new UnsupportedRescueBus(
      `Requested rescue bus '${wanted}' is not supported for a rescue device '${device}' by this host`,
    );
  }
  return { device, bus };
}

function targetOf(node: XmlNode): string {
  const { target } = node;
  const name = typeof target === 'object' && '@dev' in target ? target['@dev'] : undefined;
  return typeof name === 'string' ? name : '';
}
