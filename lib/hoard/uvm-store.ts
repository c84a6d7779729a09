/**
 * How µVMs lie in the container of the object store:
 *
 *   uvms/<image id>/<key>     entries; a µVM is in the store exactly when its entry is
 *   segments/<sha256>         pieces of packs and page maps, named by their content
 *   claims/<key>              who is baking; the store forgets a claim that is not renewed
 *   garbage                   segments that no entry needed when they were last counted
 *
 * All hosts that share the container work on it at the same time, without any lock but the claims.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { ObjectRefused, type GetOptions, type ObjectStore } from '../openstack';
import { MAX_ENTRY_BYTES, parseEntry, type Entry } from './entry';

/** Names a µVM in the store. */
export interface StoredKey {
  readonly imageId: string;
  readonly key: string;
}

/** Says that a segment is not needed by any entry, and since when by the store's clock. */
export type Garbage = ReadonlyMap<string, number>;

const ENTRY_NAME = /^uvms\/([0-9a-f-]{36})\/([0-9a-f]{64})$/;
const SEGMENT_NAME = /^segments\/([0-9a-f]{64})$/;
const GARBAGE_NAME = 'garbage';
const MAX_GARBAGE_BYTES = 64 * 1024 ** 2;

const garbageSchema = z.record(z.string().regex(/^[0-9a-f]{64}$/), z.number());

/** The µVMs in the store. */
export class UvmStore {
  constructor(readonly objects: ObjectStore) {}

  /** Names of all µVMs, or those of one image. */
  async keys(imageId?: string, signal?: AbortSignal): Promise<StoredKey[]> {
    const prefix = imageId === undefined ? 'uvms/' : `uvms/${imageId}/`;
    const { objects } = await this.objects.list(prefix, signal);
    return objects.flatMap(({ name }) => {
      const match = ENTRY_NAME.exec(name);
      return match?.[1] === undefined || match[2] === undefined ? [] : [{ imageId: match[1], key: match[2] }];
    });
  }

  async has(uvm: StoredKey, signal?: AbortSignal): Promise<boolean> {
    return (await this.objects.head(entryName(uvm), signal)) !== undefined;
  }

  /**
   * A µVM's entry, or undefined when it is not in the store.
   * @throws ObjectRefused
   */
  async entry(uvm: StoredKey, signal?: AbortSignal): Promise<Entry | undefined> {
    const name = entryName(uvm);
    const content = await this.objects.get(name, { maxBytes: MAX_ENTRY_BYTES, signal });
    return content && parseEntry(content, name, uvm);
  }

  /** Writes an entry, for which all segments are there; false when there was one and it is not to be replaced. */
  async putEntry(
    uvm: StoredKey,
    content: Buffer,
    { replace, signal }: { readonly replace: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<boolean> {
    return await this.objects.put(entryName(uvm), content, { ifAbsent: !replace, signal });
  }

  async removeEntry(uvm: StoredKey, signal?: AbortSignal): Promise<void> {
    await this.objects.remove(entryName(uvm), signal);
  }

  /** Whether the store has this very segment. */
  async hasSegment(digest: string, content: Buffer, signal?: AbortSignal): Promise<boolean> {
    const record = await this.objects.head(segmentName(digest), signal);
    if (record?.sizeBytes !== content.length) return false;
    return record.md5 === createHash('md5').update(content).digest('hex');
  }

  async putSegment(digest: string, content: Buffer, signal?: AbortSignal): Promise<void> {
    await this.objects.put(segmentName(digest), content, { signal });
  }

  /**
   * A segment, checked.
   * @throws ObjectRefused when it is not there or anything else than what its name says
   */
  async segment(digest: string, sizeBytes: number, options: Omit<GetOptions, 'maxBytes'>): Promise<Buffer> {
    const name = segmentName(digest);
    const content = await this.objects.get(name, { ...options, maxBytes: sizeBytes });
    if (content === undefined) throw new ObjectRefused(name, 'it is not there');
    if (content.length !== sizeBytes) {
      throw new ObjectRefused(name, `it has ${content.length} bytes, not ${sizeBytes}`);
    }
    if (createHash('sha256').update(content).digest('hex') !== digest) {
      throw new ObjectRefused(name, 'its content is not what its name says');
    }
    return content;
  }

  /** All segments, and the store's time. */
  async segments(
    signal?: AbortSignal,
  ): Promise<{ readonly found: { digest: string; modifiedAtMs: number }[]; readonly nowMs: number }> {
    const { objects, nowMs } = await this.objects.list('segments/', signal);
    const found = objects.flatMap(({ name, modifiedAtMs }) => {
      const digest = SEGMENT_NAME.exec(name)?.[1];
      return digest === undefined ? [] : [{ digest, modifiedAtMs }];
    });
    return { found, nowMs };
  }

  async removeSegment(digest: string, signal?: AbortSignal): Promise<void> {
    await this.objects.remove(segmentName(digest), signal);
  }

  /** What is about to be removed; what cannot be read is nothing. */
  async garbage(signal?: AbortSignal): Promise<Garbage> {
    const content = await this.objects.get(GARBAGE_NAME, { maxBytes: MAX_GARBAGE_BYTES, signal });
    if (content === undefined) return new Map();
    try {
      return new Map(Object.entries(garbageSchema.parse(JSON.parse(content.toString('utf8')))));
    } catch {
      return new Map();
    }
  }

  async putGarbage(garbage: Garbage, signal?: AbortSignal): Promise<void> {
    const content = Buffer.from(JSON.stringify(Object.fromEntries(garbage)));
    await this.objects.put(GARBAGE_NAME, content, { signal });
  }
}

/** The object that holds a µVM's entry. */
export function entryName({ imageId, key }: StoredKey): string {
  return `uvms/${imageId}/${key}`;
}

function segmentName(digest: string): string {
  return `segments/${digest}`;
}
