/** Reads the end of a server's console log, across the files that virtlogd rotates it into. */
import { open } from 'node:fs/promises';
import { isErrno } from './instance-store';

/** Nova's limit (MAX_CONSOLE_BYTES). */
const MAX_BYTES = 100 * 1024;
/** virtlogd keeps three backups at most unless told otherwise. */
const MAX_BACKUPS = 3;

/** The last `tailLines` lines (null: all) of the last 100 KiB; empty without a log. */
export async function readConsoleLog(path: string, tailLines: number | null): Promise<string> {
  const parts: Buffer[] = [];
  let wanted = MAX_BYTES;
  for (let backup = -1; backup < MAX_BACKUPS && wanted > 0; backup += 1) {
    const part = await lastBytes(backup < 0 ? path : `${path}.${backup}`, wanted);
    if (part === null) break;
    parts.unshift(part);
    wanted -= part.length;
  }
  const text = Buffer.concat(parts).toString('utf8');
  return tailLines === null ? text : lastLines(text, tailLines);
}

/** As Nova counts them: the empty rest after the last line feed is one (nova/compute/manager.py, _tail_log). */
function lastLines(text: string, count: number): string {
  return count <= 0 ? '' : text.split('\n').slice(-count).join('\n');
}

async function lastBytes(path: string, count: number): Promise<Buffer | null> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const length = Math.min(size, count);
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return null;
    throw error;
  }
}
