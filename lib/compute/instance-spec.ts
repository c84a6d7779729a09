/**
 * From Nova's records to what a driver needs to know of a server. The driver never sees a versioned object.
 */
import { z } from 'zod';
import type { FlavorSpec, ImageSpec, InstanceSpec } from '../../drivers/driver';
import type { Flavor, Instance } from '../objects';

const imageDictSchema = z.object({
  id: z.string().nullish(),
  disk_format: z.string().nullish(),
  container_format: z.string().nullish(),
  size: z.number().nullish(),
  min_disk: z.number().nullish(),
  min_ram: z.number().nullish(),
  checksum: z.string().nullish(),
  properties: z.record(z.string(), z.unknown()).nullish(),
});

/** Reads the image dictionary of a `build_and_run_instance` request (Glance's record as nova-api passes it on). */
export function imageSpecFromDict(image: unknown, imageRef: string): ImageSpec {
  const parsed = imageDictSchema.parse(image ?? {});
  return {
    id: parsed.id ?? imageRef,
    diskFormat: parsed.disk_format ?? 'raw',
    containerFormat: parsed.container_format ?? 'bare',
    sizeBytes: parsed.size ?? 0,
    minDiskGb: parsed.min_disk ?? 0,
    minRamMb: parsed.min_ram ?? 0,
    checksum: parsed.checksum ?? null,
    properties: stringProperties(parsed.properties ?? {}),
  };
}

/** Rebuilds the image from what Nova keeps with the server (`image_*` of system_metadata; nova/utils.py). */
export function imageSpecFromInstance(instance: Instance): ImageSpec {
  const prefix = 'image_';
  const kept: Record<string, string> = {};
  for (const [key, value] of Object.entries(instance.systemMetadata)) {
    if (key.startsWith(prefix) && value !== null) kept[key.slice(prefix.length)] = value;
  }
  const { disk_format, container_format, min_disk, min_ram, base_image_ref, ...properties } = kept;
  return {
    id: base_image_ref ?? instance.imageRef,
    diskFormat: disk_format ?? 'raw',
    containerFormat: container_format ?? 'bare',
    sizeBytes: 0,
    minDiskGb: Number(min_disk ?? 0),
    minRamMb: Number(min_ram ?? 0),
    checksum: null,
    properties,
  };
}

/** What the flavor gives. */
export function flavorSpec(flavor: Flavor): FlavorSpec {
  return {
    name: flavor.name,
    vcpus: flavor.vcpus,
    memoryMb: flavor.memoryMb,
    rootGb: flavor.rootGb,
    ephemeralGb: flavor.ephemeralGb,
    swapMb: flavor.swapMb,
    extraSpecs: flavor.extraSpecs,
  };
}

/**
 * The server as the driver takes it.
 *
 * @param nameTemplate Nova's `instance_name_template`
 * @param image by default what Nova kept of the image it was built from
 */
export function instanceSpec(
  instance: Instance,
  nameTemplate: string,
  image = imageSpecFromInstance(instance),
): InstanceSpec {
  return {
    uuid: instance.uuid,
    name: instance.nameFrom(nameTemplate),
    displayName: instance.displayName ?? instance.uuid,
    projectId: instance.projectId,
    userId: instance.userId,
    flavor: flavorSpec(instance.flavor),
    image,
  };
}

function stringProperties(properties: Readonly<Record<string, unknown>>): Record<string, string> {
  const entries = Object.entries(properties).filter(([, value]) => value !== null && value !== undefined);
  return Object.fromEntries(
    entries.map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
  );
}
