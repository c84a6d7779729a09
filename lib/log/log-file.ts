/**
 * A log file that can be taken away under the writer, as Python's WatchedFileHandler has it: when logrotate has renamed or
 * removed it, lines go into a new file of the same name. As there, a line is the reason to look: a service that has nothing
 * to say is not woken.
 */
import { stat } from 'node:fs/promises';
import { fstat } from 'node:fs';
import { promisify } from 'node:util';
import pino from 'pino';

/** Lines that follow one another closer are not worth a look each. */
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
  let lookedAtMs = performance.now();
  /** Lines that wait for the look that one of them caused. */
  let waiting: string[] = [];
  const release = (): void => {
    const lines = waiting;
    waiting = [];
    for (const line of lines) destination.write(line);
  };
  return {
    write: (line) => {
      const nowMs = performance.now();
      if (waiting.length > 0) {
        waiting.push(line);
      } else if (nowMs - lookedAtMs < LOOK_MS) {
        destination.write(line);
      } else {
        lookedAtMs = nowMs;
        waiting.push(line);
        void look().then(release, release);
      }
    },
    look,
    flushSync: () => {
      release();
      destination.flushSync();
    },
  };
}
