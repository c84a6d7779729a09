/**
 * Looks into a disk image before QEMU does: what it really is, and whether opening it would make QEMU open anything else.
 *
 * An image is its owner's input. A qcow2 header may name a backing file or a data file of the host, and QEMU follows it.
 * Layout as in QEMU's docs/interop/qcow2.txt; only what can be decided by the header is checked.
 */
import { open } from 'node:fs/promises';
import { ImageUnacceptable } from '../../lib/exceptions';

export type ImageFormat = 'qcow2' | 'raw';

/** What an accepted image is. */
export interface InspectedImage {
  readonly format: ImageFormat;
  /** Bytes that a guest sees. */
  readonly virtualSizeBytes: number;
}

/** A disk over a backing file, and what it says of that. */
export interface InspectedOverlay {
  readonly virtualSizeBytes: number;
  readonly backingPath: string;
  /** Empty when it does not say. */
  readonly backingFormat: string;
}

const HEADER_BYTES = 64 * 1024;
const QCOW2_MAGIC = 0x514649fb;
const INCOMPATIBLE = { dirty: 1n, corrupt: 2n, dataFile: 4n, compressionType: 8n, extendedL2: 16n };
const UNDERSTOOD = INCOMPATIBLE.dirty | INCOMPATIBLE.compressionType | INCOMPATIBLE.extendedL2;
const EXTENSION = { end: 0, backingFormat: 0xe2792aca, dataFileName: 0x44415441 };
const V2_HEADER_BYTES = 72;
const V3_HEADER_BYTES = 104;
/** QEMU's own limit of the L1 table: 32 MiB. */
const MAX_L1_ENTRIES = (32 * 1024 * 1024) / 8;

/** Formats other than qcow2 and raw by what they begin with; only named to refuse them. */
const FOREIGN: readonly { readonly name: string; readonly offset: number; readonly bytes: Buffer }[] = [
  { name: 'vmdk', offset: 0, bytes: Buffer.from('KDMV') },
  { name: 'vmdk', offset: 0, bytes: Buffer.from('COWD') },
  { name: 'vmdk', offset: 0, bytes: Buffer.from('# Disk DescriptorFile') },
  { name: 'vhd', offset: 0, bytes: Buffer.from('conectix') },
  { name: 'vhdx', offset: 0, bytes: Buffer.from('vhdxfile') },
  { name: 'qed', offset: 0, bytes: Buffer.from('QED\0') },
  { name: 'qcow', offset: 0, bytes: Buffer.from('QFI\xfb\0\0\0\x01', 'latin1') },
  { name: 'vdi', offset: 0x40, bytes: Buffer.from([0x7f, 0x10, 0xda, 0xbe]) },
  { name: 'luks', offset: 0, bytes: Buffer.from('LUKS\xba\xbe', 'latin1') },
  { name: 'ploop', offset: 0, bytes: Buffer.from('WithoutFreeSpace') },
];

/**
 * Inspects the image at `path`.
 * @param image its name for errors
 * @throws ImageUnacceptable saying what is wrong with it
 */
export async function inspectImage(path: string, image: string): Promise<InspectedImage> {
  const { header, fileBytes } = await readHeader(path);
  return inspectHeader(header, fileBytes, image);
}

async function readHeader(path: string): Promise<{ readonly header: Buffer; readonly fileBytes: number }> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const bytes = Math.min(HEADER_BYTES, size);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, undefined, 0);
    return { header: buffer.subarray(0, bytesRead), fileBytes: size };
  } finally {
    await file.close();
  }
}

/**
 * Inspects a disk that was made over a backing file and may have come from another host, as `inspectImage` does.
 * @returns also what its header says of the backing file, which is not to be believed
 * @throws ImageUnacceptable also when it is no qcow2
 */
export async function inspectOverlay(path: string, overlay: string): Promise<InspectedOverlay> {
  const { header, fileBytes } = await readHeader(path);
  return inspectOverlayHeader(header, fileBytes, overlay);
}

/** As `inspectOverlay`, given the first 64 KiB of a file of `fileBytes`. */
export function inspectOverlayHeader(header: Buffer, fileBytes: number, overlay: string): InspectedOverlay {
  const refuse = refusalOf(overlay);
  // What is about the backing file is taken out, and the rest held to what any image is.
  const rest = Buffer.from(header);
  if (header.length >= V3_HEADER_BYTES) rest.fill(0, 8, 20);
  const { format, virtualSizeBytes } = inspect(rest, fileBytes, refuse, [EXTENSION.dataFileName]);
  if (format !== 'qcow2') refuse('it is no qcow2');
  const nameAt = Number(header.readBigUInt64BE(8));
  const version = header.readUInt32BE(4);
  const begin = version === 3 ? header.readUInt32BE(100) : V2_HEADER_BYTES;
  const formats = [...extensions(header, begin)].filter(({ type }) => type === EXTENSION.backingFormat);
  return {
    virtualSizeBytes,
    backingPath: header.toString('utf8', nameAt, nameAt + header.readUInt32BE(16)),
    backingFormat: formats[0]?.content.toString('utf8') ?? '',
  };
}

/** As `inspectImage`, given the first 64 KiB of a file of `fileBytes`. */
export function inspectHeader(header: Buffer, fileBytes: number, image: string): InspectedImage {
  return inspect(header, fileBytes, refusalOf(image), [EXTENSION.dataFileName, EXTENSION.backingFormat]);
}

type Refuse = (reason: string) => never;

function refusalOf(image: string): Refuse {
  return (reason) => {
    throw new ImageUnacceptable(`Image ${image} is unacceptable: ${reason}`);
  };
}

function inspect(
  header: Buffer,
  fileBytes: number,
  refuse: Refuse,
  refusedExtensions: readonly number[],
): InspectedImage {
  if (fileBytes === 0) refuse('it is empty');
  const foreign = FOREIGN.find(({ offset, bytes }) =>
    header.subarray(offset, offset + bytes.length).equals(bytes),
  );
  if (foreign !== undefined) refuse(`its content is of format ${foreign.name}, which is not supported`);
  if (header.length < 4 || header.readUInt32BE(0) !== QCOW2_MAGIC) {
    return { format: 'raw', virtualSizeBytes: fileBytes };
  }
  if (header.length < V3_HEADER_BYTES) refuse('its qcow2 header is cut short');
  const version = header.readUInt32BE(4);
  if (version !== 2 && version !== 3) refuse(`qcow2 version ${version} is unknown`);
  if (header.readBigUInt64BE(8) !== 0n || header.readUInt32BE(16) !== 0) refuse('it has a backing file');
  const clusterBits = header.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21)
    refuse(`its cluster size of 2^${clusterBits} bytes is out of range`);
  if (header.readUInt32BE(32) !== 0) refuse('it is encrypted');

  let headerBytes = V2_HEADER_BYTES;
  if (version === 3) {
    const incompatible = header.readBigUInt64BE(72);
    if ((incompatible & INCOMPATIBLE.dataFile) !== 0n) refuse('it keeps its data in an external file');
    if ((incompatible & INCOMPATIBLE.corrupt) !== 0n) refuse('it is marked as corrupt');
    const unknown = incompatible & ~UNDERSTOOD;
    if (unknown !== 0n) refuse(`it needs unknown qcow2 features (0x${unknown.toString(16)})`);
    headerBytes = header.readUInt32BE(100);
    if (headerBytes < V3_HEADER_BYTES || headerBytes % 8 !== 0) refuse('its qcow2 header length is wrong');
  }
  for (const { type } of extensions(header.subarray(0, 2 ** clusterBits), headerBytes)) {
    if (!refusedExtensions.includes(type)) continue;
    if (type === EXTENSION.dataFileName) refuse('it names an external data file');
    refuse('it names the format of a backing file');
  }

  const virtualSize = header.readBigUInt64BE(24);
  const l1Entries = header.readUInt32BE(36);
  const l1Offset = header.readBigUInt64BE(40);
  const clusterBytes = 2n ** BigInt(clusterBits);
  // An L2 table is one cluster of 8-byte entries, 16-byte ones with extended L2: the smaller coverage is assumed.
  const l1Needed = (virtualSize * 16n) / (clusterBytes * clusterBytes);
  if (virtualSize === 0n) refuse('its virtual size is zero');
  if (l1Entries > MAX_L1_ENTRIES || l1Needed > BigInt(2 * MAX_L1_ENTRIES))
    refuse('its virtual size is out of range');
  if (l1Offset % clusterBytes !== 0n || l1Offset + BigInt(l1Entries) * 8n > BigInt(fileBytes)) {
    refuse('its L1 table lies outside of the file');
  }
  return { format: 'qcow2', virtualSizeBytes: Number(virtualSize) };
}

/** The header extensions. */
function* extensions(header: Buffer, begin: number): Generator<{ type: number; content: Buffer }> {
  for (let offset = begin; offset + 8 <= header.length;) {
    const type = header.readUInt32BE(offset);
    if (type === EXTENSION.end) return;
    const bytes = header.readUInt32BE(offset + 4);
    yield { type, content: header.subarray(offset + 8, offset + 8 + bytes) };
    offset += 8 + Math.ceil(bytes / 8) * 8;
  }
}
