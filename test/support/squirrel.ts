/** Small made-up µVMs for tests of the cache. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { UvmDraft } from '../../lib/squirrel';

const PAGE = 4096;

/** For a cache whose limits are not the point. */
export const UNLIMITED = { materialisedBytes: Infinity, reserveBytes: 0 };

/** Deterministic bytes: the same seed gives the same page; `compressible` ones are text-like. */
export function page(seed: string, compressible = true): Buffer {
  const digest = createHash('sha512').update(seed).digest();
  if (compressible) return Buffer.alloc(PAGE, digest.toString('hex'));
  const blocks: Buffer[] = [];
  for (let block = 0; block < PAGE / 64; block += 1) {
    blocks.push(createHash('sha512').update(`${seed}/${block}`).digest());
  }
  return Buffer.concat(blocks);
}

/** What is the same for all made-up µVMs. */
export const DESCRIPTION = {
  platform: {
    virtType: 'qemu',
    machineType: 'pc-i440fx-7.2',
    cpuModel: 'qemu64',
    qemuMajorVersion: 7,
    firmware: 'bios',
    layoutVersion: 1,
    maxVcpus: 16,
    maxMemoryMb: 65536,
  },
  memoryMb: 256,
  gateVersion: 'test',
} as const;

/** The key of a made-up µVM. */
export function keyOf(name: string): string {
  return createHash('sha256').update(name).digest('hex');
}

/** Writes the files of a made-up µVM into a new directory and describes it. */
export async function makeDraft(
  parent: string,
  name: string,
  ram: readonly Buffer[],
  disk: Buffer = page(`disk ${name}`, false),
): Promise<UvmDraft> {
  const directory = join(parent, `${name}-${randomBytes(4).toString('hex')}`);
  await mkdir(directory, { recursive: true });
  const files = {
    ram: join(directory, 'ram'),
    disk: join(directory, 'disk'),
    state: join(directory, 'state'),
  };
  await writeFile(files.ram, Buffer.concat(ram));
  await writeFile(files.disk, disk);
  await writeFile(files.state, `device state of ${name}, not a whole page`);
  return {
    files,
    description: {
      key: keyOf(name),
      image: { id: `image-of-${name}`, checksum: null },
      ...DESCRIPTION,
      bakedAt: new Date().toISOString(),
      bakeMs: 1,
    },
  };
}
