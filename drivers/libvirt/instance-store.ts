/**
 * Where a server's files are: `instances_path/<uuid>/`, laid out as by Nova. The only place that turns a UUID into a path.
 */
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { types } from 'node:util';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Marks a directory whose server is to be removed. */
const DISCARDED = 'discarded';

/** Files of one server; not all of them need to exist. */
export interface InstancePaths {
  readonly directory: string;
  readonly disk: string;
  readonly ephemeral: string;
  readonly swap: string;
  readonly configDrive: string;
  readonly consoleLog: string;
}

/** The directories of this host's servers. */
export class InstanceStore {
  constructor(readonly directory: string) {}

  /** @throws RangeError for what is not a UUID */
  paths(uuid: string): InstancePaths {
    if (!UUID.test(uuid)) throw new RangeError(`${JSON.stringify(uuid)} is not a UUID`);
    const directory = join(this.directory, uuid);
    return {
      directory,
      disk: join(directory, 'disk'),
      ephemeral: join(directory, 'disk.eph0'),
      swap: join(directory, 'disk.swap'),
      configDrive: join(directory, 'disk.config'),
      consoleLog: join(directory, 'console.log'),
    };
  }

  /** Makes an empty directory for a server, removing what an earlier attempt may have left. */
  async create(uuid: string): Promise<InstancePaths> {
    const paths = this.paths(uuid);
    await rm(paths.directory, { recursive: true, force: true });
    await mkdir(paths.directory, { recursive: true, mode: 0o755 });
    return paths;
  }

  /** Removes a server's files. Idempotent. */
  async remove(uuid: string): Promise<void> {
    await rm(this.paths(uuid).directory, { recursive: true, force: true });
  }

  /** Notes in a server's directory, if there is one, that nothing of it is to stay. */
  async markDiscarded(uuid: string): Promise<void> {
    const { directory } = this.paths(uuid);
    if (await exists(directory)) await writeFile(join(directory, DISCARDED), '');
  }

  /** UUIDs of servers that were marked so. */
  async listDiscarded(): Promise<string[]> {
    const found: string[] = [];
    for (const uuid of await this.list()) {
      if (await exists(join(this.directory, uuid, DISCARDED))) found.push(uuid);
    }
    return found;
  }

  /** UUIDs that have a directory here. */
  async list(): Promise<string[]> {
    const entries = await readdir(this.directory, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() && UUID.test(entry.name)).map((entry) => entry.name);
  }
}

/** Whether there is a file at `path`. */
export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/** Whether `error` is the operating system's refusal with `code`. */
export function isErrno(error: unknown, code: string): boolean {
  return types.isNativeError(error) && 'code' in error && error.code === code;
}
