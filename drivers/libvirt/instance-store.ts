/**
 * Where a server's files are: `instances_path/<uuid>/`, laid out as by Nova. The only place that turns a UUID into a path.
 */
import { mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { types } from 'node:util';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** What the name of a directory ends in that is kept until a resize is confirmed. */
const ASIDE = '_resize';

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
  /** Of a rescued server: the disk it boots from, its config drive, and the definition it had before. */
  readonly rescueDisk: string;
  readonly rescueConfigDrive: string;
  readonly unrescueXml: string;
}

/** The directories of this host's servers. */
export class InstanceStore {
  constructor(readonly directory: string) {}

  /** @throws RangeError for what is not a UUID */
  paths(uuid: string): InstancePaths {
    return pathsIn(this.directoryOf(uuid));
  }

  /** Makes an empty directory for a server, removing what an earlier attempt may have left. */
  async create(uuid: string): Promise<InstancePaths> {
    const paths = this.paths(uuid);
    await rm(paths.directory, { recursive: true, force: true });
    await mkdir(paths.directory, { recursive: true, mode: 0o755 });
    return paths;
  }

  /** Removes a server's files, those set aside too. Idempotent. */
  async remove(uuid: string): Promise<void> {
    await rm(this.directoryOf(uuid), { recursive: true, force: true });
    await this.forgetAside(uuid);
  }

  /** Moves a server's directory aside and makes an empty one in its place. */
  async setAside(uuid: string): Promise<{ readonly aside: InstancePaths; readonly fresh: InstancePaths }> {
    await this.forgetAside(uuid);
    await rename(this.directoryOf(uuid), this.asideOf(uuid));
    return { aside: pathsIn(this.asideOf(uuid)), fresh: await this.create(uuid) };
  }

  async hasAside(uuid: string): Promise<boolean> {
    return await exists(this.asideOf(uuid));
  }

  /** Puts the directory that was set aside in its place again. */
  async putBack(uuid: string): Promise<void> {
    await rm(this.directoryOf(uuid), { recursive: true, force: true });
    await rename(this.asideOf(uuid), this.directoryOf(uuid));
  }

  /** Removes the directory that was set aside, if one was. */
  async forgetAside(uuid: string): Promise<void> {
    await rm(this.asideOf(uuid), { recursive: true, force: true });
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

  private directoryOf(uuid: string): string {
    if (!UUID.test(uuid)) throw new RangeError(`${JSON.stringify(uuid)} is not a UUID`);
    return join(this.directory, uuid);
  }

  private asideOf(uuid: string): string {
    return `${this.directoryOf(uuid)}${ASIDE}`;
  }
}

function pathsIn(directory: string): InstancePaths {
  return {
    directory,
    disk: join(directory, 'disk'),
    ephemeral: join(directory, 'disk.eph0'),
    swap: join(directory, 'disk.swap'),
    configDrive: join(directory, 'disk.config'),
    consoleLog: join(directory, 'console.log'),
    rescueDisk: join(directory, 'disk.rescue'),
    rescueConfigDrive: join(directory, 'disk.config.rescue'),
    unrescueXml: join(directory, 'unrescue.xml'),
  };
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
