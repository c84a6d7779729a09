/**
 * The entry of a µVM in the object store: its manifest, and of which segments its files are made. Written last, so that
 * a µVM is in the store exactly when its entry is. Whatever is read back is untrusted: everything here is checked.
 */
import { z } from 'zod';
import { ObjectRefused } from '../openstack';
import { MAX_MAP_BYTES, type ParcelFile, type UvmManifest, fileNameOf, parseManifest } from '../squirrel';

const FORMAT_NAME = 'prebake-stored-uvm';
const FORMAT_VERSION = 1;

/** Files are cut into segments of this size; the last one may be smaller. */
export const SEGMENT_BYTES = 4 * 1024 ** 2;
/** An entry is read into memory whole. */
export const MAX_ENTRY_BYTES = 16 * 1024 ** 2;
/** What the files of a µVM may take beyond a multiple of its memory: packs have pages of others, too. */
const SPARE_BYTES = 4 * 1024 ** 3;
const MEMORIES = 4;
const NAMES_SHOWN = 3;

const digestSchema = z.string().regex(/^[0-9a-f]{64}$/);

const fileSchema = z
  .strictObject({
    kind: z.enum(['map', 'pack']),
    id: digestSchema,
    sizeBytes: z.int().positive(),
    /** SHA-256 of each segment, which is also its name in the store. */
    segments: z.array(digestSchema),
  })
  .refine((file) => file.segments.length === Math.ceil(file.sizeBytes / SEGMENT_BYTES), {
    message: 'its segments do not make up its size',
  })
  .refine((file) => file.kind === 'pack' || file.sizeBytes <= MAX_MAP_BYTES, {
    message: 'it is too large for a page map',
  });

const entrySchema = z.strictObject({
  format: z.literal(FORMAT_NAME),
  version: z.literal(FORMAT_VERSION),
  /** The text of the manifest's file. */
  manifest: z.string(),
  files: z.array(fileSchema).max(66_000),
});

/** A file as it lies in the store. */
export type StoredParcelFile = z.infer<typeof fileSchema>;

/** A µVM in the store. */
export interface Entry {
  readonly manifest: UvmManifest;
  readonly text: string;
  readonly files: readonly StoredParcelFile[];
}

/** The bytes of an entry. */
export function serialiseEntry(text: string, files: readonly StoredParcelFile[]): Buffer {
  return Buffer.from(JSON.stringify({ format: FORMAT_NAME, version: FORMAT_VERSION, manifest: text, files }));
}

/**
 * Reads an entry.
 * @param name the object's, for errors
 * @param expected what the object's name says it is
 * @throws ObjectRefused when it is anything else
 */
export function parseEntry(
  content: Buffer,
  name: string,
  expected: { readonly imageId: string; readonly key: string },
): Entry {
  let raw: unknown;
  try {
    raw = JSON.parse(content.toString('utf8'));
  } catch (error) {
    throw new ObjectRefused(name, 'it is not JSON', { cause: error });
  }
  const head = z.looseObject({ format: z.literal(FORMAT_NAME), version: z.number() }).safeParse(raw);
  if (!head.success) throw new ObjectRefused(name, 'it is not the entry of a µVM');
  if (head.data.version !== FORMAT_VERSION) {
    throw new ObjectRefused(
      name,
      `it has version ${head.data.version}, this version of prebake reads ${FORMAT_VERSION}`,
    );
  }
  const parsed = entrySchema.safeParse(raw);
  if (!parsed.success) {
    throw new ObjectRefused(name, z.prettifyError(parsed.error).replace(/\s+/g, ' ').slice(0, 500));
  }
  const { manifest: text, files } = parsed.data;
  let manifest: UvmManifest;
  try {
    manifest = parseManifest(text, `the manifest in ${name}`);
  } catch (error) {
    throw new ObjectRefused(name, error instanceof Error ? error.message : String(error), { cause: error });
  }
  if (manifest.key !== expected.key) throw new ObjectRefused(name, `it is that of µVM ${manifest.key}`);
  if (manifest.image.id !== expected.imageId) {
    throw new ObjectRefused(name, `it is of image ${manifest.image.id}`);
  }
  const problem = problemOf(manifest, files);
  if (problem !== undefined) throw new ObjectRefused(name, problem);
  return { manifest, text, files };
}

/** What is wrong with these files of a µVM. */
function problemOf(manifest: UvmManifest, files: readonly StoredParcelFile[]): string | undefined {
  const there = new Set(files.map(fileNameOf));
  const wanted = new Set(namesOf(manifest));
  const absent = [...wanted].filter((file) => !there.has(file));
  if (absent.length > 0) return `it does not have ${absent.slice(0, NAMES_SHOWN).join(', ')}`;
  if (files.length !== wanted.size) return 'it has files twice, or others than its manifest names';
  const bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const limit = MEMORIES * manifest.memoryMb * 1024 ** 2 + SPARE_BYTES;
  if (bytes > limit) return `it has ${bytes} bytes, more than the ${limit} that such a µVM could`;
  return undefined;
}

function namesOf({ packs, files }: UvmManifest): string[] {
  const wanted: ParcelFile[] = [
    ...packs.map((id) => ({ kind: 'pack', id }) as const),
    ...Object.values(files).map(({ map }) => ({ kind: 'map', id: map }) as const),
  ];
  return wanted.map(fileNameOf);
}

/** Bytes of one of a file's segments. */
export function segmentBytes(file: StoredParcelFile, position: number): number {
  return Math.min(SEGMENT_BYTES, file.sizeBytes - position * SEGMENT_BYTES);
}
