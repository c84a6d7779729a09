/** What lies under a disk: the name of the backing file in a qcow2 header, read without a run of qemu-img. */
import { open } from 'node:fs/promises';

const QCOW2_MAGIC = 0x514649fb;
const HEADER_BYTES = 20;
const MAX_NAME_BYTES = 1023;

/** The backing file of the disk at `path`; undefined without one, and for what is no qcow2. */
export async function backingFileOf(path: string): Promise<string | undefined> {
  const file = await open(path, 'r');
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    await file.read(header, 0, HEADER_BYTES, 0);
    if (header.readUInt32BE(0) !== QCOW2_MAGIC) return undefined;
    const length = header.readUInt32BE(16);
    if (length === 0 || length > MAX_NAME_BYTES) return undefined;
    const name = Buffer.alloc(length);
    await file.read(name, 0, length, Number(header.readBigUInt64BE(8)));
    return name.toString('utf8');
  } finally {
    await file.close();
  }
}
