/** Reads files in pages. Synchronous: for worker threads only. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { DamagedFile } from './errors';
import { PAGE_BYTES } from './page-map';

export const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);
/** Pages that are read or written at once. */
export const CHUNK_PAGES = 256;

/**
 * Calls `each` for every page of a file; the last one is padded with zeros. The buffer is valid during the call.
 * @returns the file's size in bytes
 */
export function forEachPage(
  path: string,
  each: (page: Buffer, number: number, pages: number) => void,
): number {
  const fd = openSync(path, 'r');
  try {
    const sizeBytes = fstatSync(fd).size;
    const pages = Math.ceil(sizeBytes / PAGE_BYTES);
    const chunk = Buffer.alloc(CHUNK_PAGES * PAGE_BYTES);
    for (let first = 0; first < pages; first += CHUNK_PAGES) {
      const wanted = Math.min(sizeBytes - first * PAGE_BYTES, chunk.length);
      const filled = readAt(fd, chunk.subarray(0, wanted), first * PAGE_BYTES);
      if (filled < wanted) throw new DamagedFile(path, 'became shorter while it was read');
      if (filled % PAGE_BYTES !== 0) chunk.fill(0, filled, Math.ceil(filled / PAGE_BYTES) * PAGE_BYTES);
      for (let page = 0; page * PAGE_BYTES < filled; page += 1) {
        each(chunk.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES), first + page, pages);
      }
    }
    return sizeBytes;
  } finally {
    closeSync(fd);
  }
}

/** Fills the buffer from a position in a file; returns how many bytes there were. */
export function readAt(fd: number, into: Uint8Array, position: number): number {
  let filled = 0;
  while (filled < into.length) {
    const count = readSync(fd, into, filled, into.length - filled, position + filled);
    if (count === 0) break;
    filled += count;
  }
  return filled;
}
