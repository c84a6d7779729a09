/**
 * How far the boot of a clone has come, written down before each step, so that a service that was killed in the middle
 * knows at its next start what to make of the guest it finds.
 */
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';

const FILE_NAME = 'prebake.json';

const journalSchema = z.object({
  version: z.literal(1),
  /** Key of the µVM. */
  key: z.string(),
  /**
   * `restoring`: the guest does not run yet, or lacks devices still. `personalising`: it has them all, and takes its identity
   * with its carrier off.
   * `done`: it is a server like any other.
   */
  step: z.enum(['restoring', 'personalising', 'done']),
  /** The NICs as they are to be once the guest is someone: XML with their carrier on. */
  interfaces: z.array(z.string()),
  /** What the µVM has and this server does not want: XML of what is to be unplugged then. */
  surplus: z.array(z.string()).default([]),
  /** The definition of its later starts; empty while `restoring`. */
  coldXml: z.string(),
});
export type CloneJournal = z.infer<typeof journalSchema>;

/** Replaces the journal in a server's directory, durably. */
export async function writeJournal(directory: string, journal: Omit<CloneJournal, 'version'>): Promise<void> {
  const path = join(directory, FILE_NAME);
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(JSON.stringify({ version: 1, ...journal }));
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

/** The journal of a server; undefined for one that is no clone. @throws for one that cannot be read */
export async function readJournal(directory: string): Promise<CloneJournal | undefined> {
  let text: string;
  try {
    text = await readFile(join(directory, FILE_NAME), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return journalSchema.parse(JSON.parse(text));
}
