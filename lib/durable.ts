/**
 * Files that survive a power cut: written under another name, synced, renamed, and the directory synced.
 *
 * Also names temporary files after the process that owns them, so that the next start can tell a crashed writer's
 * leftovers from the work of one that is still at it.
 */
import { open, readFile, rename, rm } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';

/** Makes the entries of a directory durable: the names in it, not the contents behind them. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a new file and syncs its content; its name is durable only once its directory is synced. */
export async function writeSynced(path: string, content: string | Uint8Array): Promise<void> {
  const handle = await open(path, 'wx', 0o644);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Gives a synced file its final name, replacing what was there, and makes that durable. */
export async function publish(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncDirectory(dirname(to));
}

/** Removes a file or a tree, and makes that durable; nothing there is fine. */
export async function removeDurably(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
  await syncDirectory(dirname(path));
}

/** When a process started, in clock ticks since boot (field 22 of /proc/<pid>/stat), or undefined if it is gone. */
async function startTicks(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/** A new path in `directory` that says which process made it; short, since unix sockets (107 bytes) are made below it. */
export async function ownedPath(directory: string): Promise<string> {
  const ticks = (await startTicks(process.pid)) ?? '0';
  return join(directory, `${process.pid}-${ticks}-${randomBytes(4).toString('hex')}`);
}

/** Whether the process that `ownedPath` named a file after is still running. */
export async function ownerIsAlive(name: string): Promise<boolean> {
  const match = /^(\d{1,10})-(\d+)-/.exec(name);
  return match !== null && (await startTicks(Number(match[1]))) === match[2];
}
