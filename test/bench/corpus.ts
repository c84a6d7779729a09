/**
 * The corpus: µVMs of images of several Debian releases and uses, kept as plain files, so that the cache can be measured
 * again without baking again. One directory each: `ram`, `disk.qcow2`, `state`, the image as `base.qcow2`, and `uvm.json`.
 */
import { createHash } from 'node:crypto';
import { execFile } from 'node:child_process';
import { access, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { UvmDescription, UvmFileName, UvmManifest } from '../../lib/squirrel';
import { UvmHost } from '../functional/support/uvm-host';
import { CLOUD } from '../support/nova-api';
import { mostVcpus } from './growing-vcpus';

const run = promisify(execFile);
const BUILDER = join(__dirname, '../../devstack/images/debian');
const IMAGES = join(CLOUD, 'images');
const BUILD_TIMEOUT_MS = 1_200_000;
const COPY_TIMEOUT_MS = 300_000;
/** What a server of the smallest usual flavor has. */
const BASE_MEMORY_MB = 512;
const BAKE_TIMEOUT_S = 1800;
const GATE_TIMEOUT_MS = 300_000;

const uvmSchema: z.ZodType<UvmDescription> = z.strictObject({
  key: z.string(),
  image: z.strictObject({ id: z.string(), checksum: z.string().nullable() }),
  platform: z.strictObject({
    virtType: z.enum(['qemu', 'kvm']),
    machineType: z.string(),
    cpuModel: z.string(),
    qemuMajorVersion: z.int(),
    firmware: z.literal('bios'),
    layoutVersion: z.int(),
    maxVcpus: z.int(),
    maxMemoryMb: z.int(),
  }),
  memoryMb: z.int(),
  gateVersion: z.string(),
  bakedAt: z.string(),
  bakeMs: z.int(),
});

/** One baked µVM as plain files, as its clones map and copy them. */
export interface BakedSet {
  /** The image's, as `devstack/images/debian --list` has it. */
  readonly name: string;
  readonly description: UvmDescription;
  readonly files: Readonly<Record<UvmFileName, string>>;
  /** The image, as Glance has it. */
  readonly imagePath: string;
}

/** The names of the images that the figures are made with. */
export async function corpusNames(): Promise<string[]> {
  const { stdout } = await run(BUILDER, ['--corpus'], { timeout: 10_000 });
  return stdout.trim().split('\n');
}

/** The names of the sets in a directory: those of the corpus in its order, then others. */
export async function setNames(directory: string): Promise<string[]> {
  const there: string[] = [];
  for (const name of await readdir(directory)) if (await hasSet(directory, name)) there.push(name);
  const order = await corpusNames();
  const rank = (name: string): number => (order.includes(name) ? order.indexOf(name) : order.length);
  return there.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

/** Whether a directory has a complete set of that name. */
export async function hasSet(directory: string, name: string): Promise<boolean> {
  return await exists(join(directory, name, 'uvm.json'));
}

/** @throws Error when it is not there or not a set's */
export async function readSet(directory: string, name: string): Promise<BakedSet> {
  const place = join(directory, name);
  const description = uvmSchema.parse(JSON.parse(await readFile(join(place, 'uvm.json'), 'utf8')));
  const files = { ram: join(place, 'ram'), disk: join(place, 'disk.qcow2'), state: join(place, 'state') };
  return { name, description, files, imagePath: join(place, 'base.qcow2') };
}

/**
 * Bakes an image on a host of its own, with the service's baker and a private libvirtd, and keeps its files; builds the
 * image first when it is not there. The set appears when it is complete.
 * @throws BakeError when the image cannot be baked
 */
export async function bakeSet(directory: string, name: string, say: (line: string) => void): Promise<void> {
  const imagePath = join(IMAGES, `${name}.qcow2`);
  if (!(await exists(imagePath))) {
    say(`${name}: building the image`);
    await run(BUILDER, [imagePath], { timeout: BUILD_TIMEOUT_MS, maxBuffer: 64 * 1024 ** 2 });
  }
  const vcpus = mostVcpus(name);
  const host = await UvmHost.start({
    imageFile: `${name}.qcow2`,
    baseMemoryMb: BASE_MEMORY_MB,
    bakeTimeoutS: BAKE_TIMEOUT_S,
    gateTimeoutMs: GATE_TIMEOUT_MS,
    ...(vcpus !== undefined && { maxVcpus: vcpus }),
  });
  const part = join(directory, `.${name}.part`);
  try {
    const manifest = await bake(host, name, say);
    const uvm = await host.squirrel.materialise(manifest.key, { held: true });
    await rm(part, { recursive: true, force: true });
    await mkdir(part, { recursive: true });
    for (const [from, to] of [
      [uvm.ramPath, 'ram'],
      [uvm.diskDeltaPath, 'disk.qcow2'],
      [uvm.statePath, 'state'],
      [imagePath, 'base.qcow2'],
    ] as const) {
      await run('cp', ['--sparse=always', '--no-preserve=mode', from, join(part, to)], {
        timeout: COPY_TIMEOUT_MS,
      });
    }
    const { platform, memoryMb, gateVersion, bakedAt, bakeMs } = manifest;
    // Every image of the corpus is one of its own, though each was the only one of its host.
    const key = createHash('sha256').update(name).digest('hex');
    const image = { id: name, checksum: null };
    const description: UvmDescription = { key, image, platform, memoryMb, gateVersion, bakedAt, bakeMs };
    await writeFile(join(part, 'uvm.json'), `${JSON.stringify(description, null, 2)}\n`);
    await rm(join(directory, name), { recursive: true, force: true });
    await rename(part, join(directory, name));
  } finally {
    await rm(part, { recursive: true, force: true });
    await host.stop();
  }
}

async function bake(host: UvmHost, name: string, say: (line: string) => void): Promise<UvmManifest> {
  let phase = '';
  return await host.baker.bake(host.image, {
    onProgress: (progress) => {
      if (progress.phase !== phase)
        say(`${name}: ${progress.phase}, ${Math.round(progress.elapsedMs / 1000)} s`);
      ({ phase } = progress);
    },
  });
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
