/**
 * Brings a written-out file into memory ahead of the guest that will touch it. A guest that resumes touches page after page and
 * waits for each that memory has lost; read in the order of the file, all of them together come in little more time than a
 * few of those. Synchronous: for worker threads only.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import type koffiModule from 'koffi' with { 'resolution-mode': 'import' };

// koffi declares its types for ES modules only, though it ships a CommonJS build.
const koffi = createRequire(__filename)('koffi') as typeof koffiModule;

// From unistd.h and fcntl.h.
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const POSIX_FADV_WILLNEED = 3;
/** Of one request the kernel takes no more than it reads ahead by itself, which is this much unless somebody changed it. */
const REQUEST_BYTES = 128 * 1024;

interface Libc {
  readonly seek: (fd: number, offset: number, whence: number) => number;
  readonly advise: (fd: number, offset: number, length: number, advice: number) => number;
}

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded !== undefined) return loaded;
  const library = koffi.load('libc.so.6');
  loaded = {
    seek: library.func('int64_t lseek64(int fd, int64_t offset, int whence)'),
    advise: library.func('int posix_fadvise64(int fd, int64_t offset, int64_t length, int advice)'),
  };
  return loaded;
}

/** Some bytes of a file. */
export interface Range {
  readonly offset: number;
  readonly bytes: number;
}

/** Where a file is no hole: a hole that is read would take memory, too. */
export function dataRanges(fd: number, sizeBytes: number): Range[] {
  const { seek } = libc();
  const ranges: Range[] = [];
  for (let end = 0; end < sizeBytes;) {
    // Negative: nothing but a hole follows.
    const offset = seek(fd, end, SEEK_DATA);
    if (offset < 0) break;
    end = seek(fd, offset, SEEK_HOLE);
    if (end < 0) break;
    ranges.push({ offset, bytes: end - offset });
  }
  return ranges;
}

/** Has the kernel read what these files have and memory has not; returns when it is all asked for. */
export function readAhead({ paths }: { readonly paths: readonly string[] }): { readonly bytes: number } {
  const { advise } = libc();
  let total = 0;
  for (const path of paths) {
    const fd = openSync(path, 'r');
    try {
      for (const { offset, bytes } of dataRanges(fd, fstatSync(fd).size)) {
        for (let done = 0; done < bytes; done += REQUEST_BYTES) {
          advise(fd, offset + done, Math.min(REQUEST_BYTES, bytes - done), POSIX_FADV_WILLNEED);
        }
        total += bytes;
      }
    } finally {
      closeSync(fd);
    }
  }
  return { bytes: total };
}
