/**
 * Tells Windows by its disk, before minutes are spent on booting it: NTFS at the start of the disk or of a partition, or a
 * partition that only Windows has. Layouts as in the UEFI specification (5, GUID Partition Table) and in NTFS's boot sector.
 */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BaseImage } from '../image-cache';
import { run } from '../program';

const SECTOR = 512;
/** The MBR, and a GPT with its 128 entries. */
const TABLE_SECTORS = 34;
const TOOL_TIMEOUT_MS = 60_000;
const NTFS = { offset: 3, text: 'NTFS    ' };
const MBR = { entries: 446, entryBytes: 16, count: 4, typeAt: 4, startAt: 8 };
const MBR_TYPES = new Set([0x07, 0x27]);
const GPT = { magic: 'EFI PART', entriesAt: 72, countAt: 80, entryBytesAt: 84, startAt: 32 };
/** As they lie on the disk, first three fields little-endian. */
const GPT_RESERVED = '16e3c9e35c0bb84d817df92df00215ae';
const GPT_DATA = 'a2a0d0ebe5b9334487c068b6b72699c7';

/**
 * Why this image looks like Windows, or undefined.
 * @param directory scratch of this bake, for what is read out of a qcow2 image
 */
export async function signOfWindows(
  base: BaseImage,
  directory: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const read = (sector: number, count: number): Promise<Buffer> =>
    base.format === 'raw'
      ? readRaw(base.path, sector, count)
      : readQcow2(base.path, directory, sector, count, signal);
  const sectors = Math.floor(base.virtualSizeBytes / SECTOR);
  const table = await read(0, Math.min(TABLE_SECTORS, sectors));
  if (isNtfs(table)) return 'its disk holds NTFS';
  for (const { start, reserved } of [...mbrPartitions(table), ...gptPartitions(table)]) {
    if (reserved) return 'its disk has a partition that Windows reserves for itself';
    if (start < sectors && isNtfs(await read(start, 1))) {
      return 'its disk has a partition with NTFS';
    }
  }
  return undefined;
}

interface Partition {
  readonly start: number;
  readonly reserved: boolean;
}

function mbrPartitions(table: Buffer): Partition[] {
  if (table.length < SECTOR || table.readUInt16LE(SECTOR - 2) !== 0xaa55) return [];
  return Array.from({ length: MBR.count }, (_, index) => MBR.entries + index * MBR.entryBytes)
    .filter((at) => MBR_TYPES.has(table.readUInt8(at + MBR.typeAt)))
    .map((at) => ({ start: table.readUInt32LE(at + MBR.startAt), reserved: false }));
}

function gptPartitions(table: Buffer): Partition[] {
  const header = table.subarray(SECTOR, 2 * SECTOR);
  if (header.length < SECTOR || header.toString('latin1', 0, GPT.magic.length) !== GPT.magic) return [];
  const first = Number(header.readBigUInt64LE(GPT.entriesAt)) * SECTOR;
  const [count, bytes] = [header.readUInt32LE(GPT.countAt), header.readUInt32LE(GPT.entryBytesAt)];
  const found: Partition[] = [];
  for (let index = 0; bytes >= 128 && index < count; index += 1) {
    const at = first + index * bytes;
    if (at + 128 > table.length) break;
    const type = table.toString('hex', at, at + 16);
    const start = Number(table.readBigUInt64LE(at + GPT.startAt));
    if (type === GPT_RESERVED) found.push({ start, reserved: true });
    if (type === GPT_DATA) found.push({ start, reserved: false });
  }
  return found;
}

function isNtfs(sector: Buffer): boolean {
  return sector.toString('latin1', NTFS.offset, NTFS.offset + NTFS.text.length) === NTFS.text;
}

async function readRaw(path: string, sector: number, count: number): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(
      Buffer.alloc(count * SECTOR),
      0,
      undefined,
      sector * SECTOR,
    );
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

async function readQcow2(
  path: string,
  directory: string,
  sector: number,
  count: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const copy = join(directory, 'sectors');
  const part = JSON.stringify({
    driver: 'raw',
    offset: sector * SECTOR,
    size: count * SECTOR,
    file: { driver: 'qcow2', file: { driver: 'file', filename: path } },
  });
  try {
    await run('qemu-img', ['convert', '-O', 'raw', `json:${part}`, copy], {
      timeoutMs: TOOL_TIMEOUT_MS,
      signal,
    });
    return await readRaw(copy, 0, count);
  } finally {
    await rm(copy, { force: true });
  }
}
