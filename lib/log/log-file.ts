/**
 * A log file that can be taken away under the writer, as Python's WatchedFileHandler has it: when logrotate has renamed or
 * removed it, lines go into a new file of the same name.
 */
import { stat } from 'node:fs/promises';
import { fstat } from 'node:fs';
import { promisify } from 'node:util';
import pino from 'pino';

const LOOK_MS = 1_000;

/** An open log file. */
export interface LogFile {
  write(line: string): void;
  /** Makes the file anew if it is gone or another one. */
  look(): Promise<void>;
  /** Writes what is still in memory. */
  flushSync(): void;
}

/** Opens `path` for appending; its folder is made if missing. Lines are written without blocking. */
export function openLogFile(path: string): LogFile {
  const destination = pino.destination({ dest: path, mkdir: true, append: true, sync: false });
  // Not being able to log (a full disk) is no reason to end; the next line is tried again.
  destination.on('error', () => undefined);
  const look = async (): Promise<void> => {
    const fd: unknown = Reflect.get(destination, 'fd');
    if (typeof fd !== 'number' || fd < 0) return;
    try {
      const [open, named] = await Promise.all([promisify(fstat)(fd), stat(path)]);
      if (open.ino === named.ino && open.dev === named.dev) return;
    } catch {
      // Gone, or just being opened: opening it (again) is right in both cases.
    }
    destination.reopen();
  };
  setInterval(() => void look(), LOOK_MS).unref();
  return { write: (line) => void destination.write(line), look, flushSync: () => destination.flushSync() };
}
