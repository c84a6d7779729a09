/** The name of a µVM: a digest over everything that must match for a restore to be sound. */
import { createHash } from 'node:crypto';
import type { ImageSpec, UvmPlatform } from '../../drivers/driver';
import type { UvmManifest } from '../squirrel';
import { GATE_VERSION } from './bake-drive';
import { imagePolicy } from './image-policy';

/** Memory an image is baked with: the configured base, or what the image says it needs, in steps that can be added to. */
export function bakeMemoryMb(image: ImageSpec, baseMemoryMb: number): number {
  const neededMb = Math.max(image.minRamMb, imagePolicy(image).minMemoryMb ?? 0);
  return Math.max(baseMemoryMb, Math.ceil(neededMb / HOTPLUG_STEP_MB) * HOTPLUG_STEP_MB);
}

/** Guests bring hot-plugged memory online in blocks of this many MiB (x86_64). */
export const HOTPLUG_STEP_MB = 128;

/** 64 hexadecimal digits. */
export function uvmKey(
  image: Pick<ImageSpec, 'id' | 'checksum'>,
  platform: UvmPlatform,
  memoryMb: number,
  gateVersion = GATE_VERSION,
): string {
  const parts = [
    image.id,
    image.checksum,
    platform.virtType,
    platform.machineType,
    platform.cpuModel,
    platform.qemuMajorVersion,
    platform.firmware,
    platform.layoutVersion,
    platform.maxVcpus,
    platform.maxMemoryMb,
    memoryMb,
    gateVersion,
  ];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** The key that a µVM has by what its manifest says: another one than its own speaks against it. */
export function keyOfManifest({
  image,
  platform,
  memoryMb,
  gateVersion,
}: Pick<UvmManifest, 'image' | 'platform' | 'memoryMb' | 'gateVersion'>): string {
  return uvmKey(image, platform, memoryMb, gateVersion);
}
