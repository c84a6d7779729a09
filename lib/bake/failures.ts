/**
 * Bakes that failed, kept with the cache: why an image has no µVM, and when it is worth another try.
 *
 * A record belongs to the key of a µVM, so a changed image, host or gate is tried at once.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { publish, writeSynced } from '../durable';

const FIRST_WAIT_MS = 10 * 60_000;
const WAIT_FACTOR = 4;
const LONGEST_WAIT_MS = 24 * 60 * 60_000;
/** A reason may quote a guest's console. */
const MAX_REASON = 2000;

const failureSchema = z.object({
  version: z.literal(1),
  key: z.string().regex(/^[0-9a-f]{64}$/),
  imageId: z.string(),
  /** Step of the bake that failed. */
  phase: z.string(),
  reason: z.string(),
  /** How often in a row. */
  attempts: z.int().positive(),
  failedAt: z.iso.datetime(),
  /** Not tried again by itself before; null: never, only a changed image can help. */
  retryAt: z.iso.datetime().nullable(),
});

/** Why an image has no µVM. */
export type BakeFailure = Omit<z.infer<typeof failureSchema>, 'version'>;

/** What a bake that failed is remembered by. */
export interface FailedBake {
  readonly key: string;
  readonly imageId: string;
  readonly phase: string;
  readonly reason: string;
  /** Trying again cannot help. */
  readonly forGood: boolean;
}

/** The records of one cache; several processes may use them. */
export class BakeFailures {
  private readonly directory: string;

  /** @param cacheDirectory the cache's own; nothing is made before the first record */
  constructor(cacheDirectory: string) {
    this.directory = join(cacheDirectory, 'bake-failures');
  }

  /** Notes a failure; each further one in a row waits longer. Records of the image under other keys are out of date. */
  async record({ key, imageId, phase, reason, forGood }: FailedBake, now = new Date()): Promise<void> {
    const attempts = ((await this.find(key))?.attempts ?? 0) + 1;
    const waitMs = Math.min(FIRST_WAIT_MS * WAIT_FACTOR ** (attempts - 1), LONGEST_WAIT_MS);
    const failure: BakeFailure = {
      key,
      imageId,
      phase,
      reason: reason.slice(0, MAX_REASON),
      attempts,
      failedAt: now.toISOString(),
      retryAt: forGood ? null : new Date(now.getTime() + waitMs).toISOString(),
    };
    await mkdir(this.directory, { recursive: true, mode: 0o755 });
    for (const other of await this.list()) {
      if (other.imageId === imageId && other.key !== key) await this.clear(other.key);
    }
    const path = this.path(key);
    const temporary = `${path}.${randomBytes(4).toString('hex')}`;
    await writeSynced(temporary, JSON.stringify({ version: 1, ...failure }));
    await publish(temporary, path);
  }

  /** The failure of a key; undefined without one, and for a record that cannot be read. */
  async find(key: string): Promise<BakeFailure | undefined> {
    try {
      return failureSchema.parse(JSON.parse(await readFile(this.path(key), 'utf8')));
    } catch (error) {
      if (error instanceof z.ZodError || error instanceof SyntaxError || isMissing(error)) return undefined;
      throw error;
    }
  }

  /** All of them, newest first. */
  async list(): Promise<BakeFailure[]> {
    const names = await readdir(this.directory).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    const keys = names.filter((name) => name.endsWith('.json')).map((name) => basename(name, '.json'));
    const found = await Promise.all(keys.map((key) => this.find(key)));
    return found
      .filter((failure) => failure !== undefined)
      .sort((a, b) => b.failedAt.localeCompare(a.failedAt));
  }

  /** The image has its µVM. Nothing there is fine. */
  async clear(key: string): Promise<void> {
    await rm(this.path(key), { force: true });
  }

  private path(key: string): string {
    return join(this.directory, `${failureSchema.shape.key.parse(key)}.json`);
  }
}

/** Whether a bake that failed so may be tried again by itself. */
export function mayTryAgain({ retryAt }: BakeFailure, now = new Date()): boolean {
  return retryAt !== null && now >= new Date(retryAt);
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}
