/**
 * The manifest of a µVM: what it is, what it must match, and where its files' bytes are.
 *
 * One JSON file per µVM. It names its page maps by their SHA-256 and its packs by theirs, so that a manifest that is
 * intact vouches for everything below it; its own digest is inside it.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { DamagedFile, UnsupportedFormat } from './errors';

/** Version of the manifest and of the map and pack files it refers to. */
export const FORMAT_VERSION = 4;
const FORMAT_NAME = 'prebake-uvm';

const digestSchema = z.string().regex(/^[0-9a-f]{64}$/);
/** Names a µVM; also a file name, hence the narrow alphabet. */
export const uvmKeySchema = digestSchema;

const storedFileSchema = z.strictObject({
  sizeBytes: z.int().nonnegative(),
  /** SHA-256 of the page map, which is also its file name. */
  map: digestSchema,
  /** Pages that are not zero. */
  pages: z.int().nonnegative(),
  /** Of these, how many are blocks of the image. */
  imagePages: z.int().nonnegative(),
  /** Of the others, how many the cache had no copy of yet. */
  newPages: z.int().nonnegative(),
});
/** Where one file of a µVM is. */
export type StoredFile = z.infer<typeof storedFileSchema>;

const platformSchema = z.strictObject({
  virtType: z.enum(['qemu', 'kvm']),
  machineType: z.string().min(1),
  cpuModel: z.string().min(1),
  qemuMajorVersion: z.int().positive(),
  firmware: z.literal('bios'),
  layoutVersion: z.int().positive(),
  maxVcpus: z.int().positive(),
  maxMemoryMb: z.int().positive(),
});

const uvmSchema = z.strictObject({
  key: uvmKeySchema,
  image: z.strictObject({
    id: z.string().min(1),
    checksum: z.string().nullable(),
  }),
  platform: platformSchema,
  memoryMb: z.int().positive(),
  gateVersion: z.string().min(1),
  bakedAt: z.iso.datetime(),
  bakeMs: z.int().nonnegative(),
  files: z.strictObject({ ram: storedFileSchema, disk: storedFileSchema, state: storedFileSchema }),
  /**
   * Packs, each named by the SHA-256 of its index: first those the maps refer to, by position, then others with pages that
   * these build on.
   */
  packs: z.array(digestSchema).max(65_535),
  /** Bytes this µVM added to the cache when it was stored. */
  addedBytes: z.int().nonnegative(),
});

/** What the cache knows about one µVM. */
export type UvmManifest = z.infer<typeof uvmSchema>;
/** What the baker knows of a µVM before it is stored. */
export type UvmDescription = Omit<UvmManifest, 'files' | 'packs' | 'addedBytes'>;
/** The files of a µVM. */
export type UvmFileName = keyof UvmManifest['files'];
/** The order in which files are stored and listed. */
export const UVM_FILES: readonly UvmFileName[] = ['ram', 'disk', 'state'];

const envelopeSchema = z.strictObject({
  format: z.literal(FORMAT_NAME),
  version: z.literal(FORMAT_VERSION),
  digest: digestSchema,
  uvm: z.unknown(),
});

/** SHA-256, hex, of the manifest's content. */
function digestOf(uvm: unknown): string {
  return createHash('sha256').update(JSON.stringify(uvm)).digest('hex');
}

/** The manifest as the text of its file. */
export function serialiseManifest(uvm: UvmManifest): string {
  return `${JSON.stringify({ format: FORMAT_NAME, version: FORMAT_VERSION, digest: digestOf(uvm), uvm }, null, 1)}\n`;
}

/** Whether this error is about a version from before this program's. */
export function isOldFormat(error: unknown): boolean {
  return (
    error instanceof UnsupportedFormat &&
    Number(/^version (\d+)$/.exec(error.found)?.[1] ?? NaN) < FORMAT_VERSION
  );
}

/**
 * Reads a manifest and checks its digest and shape.
 * @param path names the file in errors
 * @throws UnsupportedFormat for another version, DamagedFile for anything else that is not a manifest
 */
export function parseManifest(text: string, path: string): UvmManifest {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (error) {
    throw new DamagedFile(path, 'not JSON', { cause: error });
  }
  const head = z.looseObject({ format: z.string(), version: z.number() }).safeParse(raw);
  if (!head.success || head.data.format !== FORMAT_NAME) throw new DamagedFile(path, 'not a manifest');
  if (head.data.version !== FORMAT_VERSION) {
    throw new UnsupportedFormat(path, `version ${head.data.version}`, `version ${FORMAT_VERSION}`);
  }
  const envelope = envelopeSchema.safeParse(raw);
  if (!envelope.success) throw new DamagedFile(path, z.prettifyError(envelope.error));
  // The digest is over the text of what is known to have the shape of a µVM, and so no depth without end.
  const uvm = uvmSchema.safeParse(envelope.data.uvm);
  if (!uvm.success) throw new DamagedFile(path, z.prettifyError(uvm.error));
  if (digestOf(envelope.data.uvm) !== envelope.data.digest) throw new DamagedFile(path, 'digest differs');
  return uvm.data;
}
