/**
 * One container of the cloud's object store, by the API that Swift and Ceph's RGW both speak. Objects are small enough
 * to be held in memory. What the objects mean is the business of others.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { chunksOf, DownloadTruncated } from './download';
import { isHttpError } from './errors';
import { pathSegment, type KeystoneSession, type ServiceCall } from './keystone';
import type { EndpointOptions } from './options';
import { ServiceClient } from './service-client';
import type { HttpStream } from './transport';

/** What the store says of an object. */
export interface ObjectRecord {
  readonly name: string;
  readonly sizeBytes: number;
  /** MD5 in hex: the store's ETag. */
  readonly md5: string;
  /** By the store's clock. */
  readonly modifiedAtMs: number;
}

/** How an object is written. */
export interface PutOptions {
  /** Only if there is no object of this name: of several that try at the same time, one succeeds. */
  readonly ifAbsent?: boolean;
  /** The store forgets the object after so many seconds. */
  readonly expiresAfterS?: number;
  readonly signal?: AbortSignal | undefined;
}

/** How an object is read. */
export interface GetOptions {
  /** A larger one is refused, whatever it says of its size. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
  /** Told of bytes as they arrive; the next ones are read when it resolves. */
  readonly onBytes?: (count: number) => Promise<void>;
}

/** An object is not what it should be; names it. */
export class ObjectRefused extends Error {
  constructor(
    readonly objectName: string,
    readonly problem: string,
    options?: ErrorOptions,
  ) {
    super(`object ${objectName} of the store is refused: ${problem}`, options);
    this.name = 'ObjectRefused';
  }
}

const LIST_LIMIT = 1000;
const UPLOAD_TIMEOUT_MS = 120_000;

const listingSchema = z.array(
  z.looseObject({
    name: z.string(),
    bytes: z.number(),
    hash: z.string(),
    last_modified: z.string(),
  }),
);

/** A container; every call rejects with the errors of a service call. */
export class ObjectStore {
  private readonly client: ServiceClient;

  constructor(
    session: KeystoneSession,
    readonly container: string,
    endpoint: EndpointOptions = {},
  ) {
    this.client = new ServiceClient(session, 'object-store', { ...endpoint, keepVersion: true });
  }

  /** Makes the container; one that is there is fine. */
  async prepare(signal?: AbortSignal): Promise<void> {
    await this.client.send({ method: 'PUT', path: `/${pathSegment(this.container)}`, signal });
  }

  /** Writes an object whole; false when it was to be new and is not. */
  async put(name: string, bytes: Uint8Array, options: PutOptions = {}): Promise<boolean> {
    try {
      await this.client.send({
        method: 'PUT',
        path: this.path(name),
        bytes,
        headers: {
          'Content-Type': 'application/octet-stream',
          ETag: createHash('md5').update(bytes).digest('hex'),
          ...(options.ifAbsent === true ? { 'If-None-Match': '*' } : {}),
          ...expiry(options.expiresAfterS),
        },
        timeoutMs: UPLOAD_TIMEOUT_MS,
        signal: options.signal,
        // An answer that got lost would make the second attempt find the object of the first.
        repeatable: options.ifAbsent !== true,
      });
      return true;
    } catch (error) {
      if (options.ifAbsent === true && isHttpError(error, 412)) return false;
      throw error;
    }
  }

  /**
   * The bytes of an object, or undefined when there is none.
   * @throws ObjectRefused when it is larger than allowed, DownloadTruncated when it ends too early
   */
  async get(name: string, options: GetOptions): Promise<Buffer | undefined> {
    const call: ServiceCall = {
      method: 'GET',
      path: this.path(name),
      headers: { Accept: '*/*' },
      signal: options.signal,
    };
    let answer: HttpStream;
    try {
      answer = await this.client.stream(call);
    } catch (error) {
      if (isHttpError(error, 404)) return undefined;
      throw error;
    }
    const announced = Number(answer.headers['content-length'] ?? NaN);
    const chunks: Buffer[] = [];
    let received = 0;
    try {
      if (announced > options.maxBytes) throw this.tooLarge(name, options.maxBytes);
      for await (const chunk of chunksOf(answer.stream, () => received, announced)) {
        received += chunk.length;
        if (received > options.maxBytes) throw this.tooLarge(name, options.maxBytes);
        chunks.push(chunk);
        await options.onBytes?.(chunk.length);
      }
      if (received < announced) throw new DownloadTruncated(received, announced);
    } finally {
      answer.stream.destroy();
    }
    return Buffer.concat(chunks);
  }

  /** What the store says of an object, or undefined when there is none. */
  async head(name: string, signal?: AbortSignal): Promise<ObjectRecord | undefined> {
    try {
      const { headers } = await this.client.send({ method: 'HEAD', path: this.path(name), signal });
      return {
        name,
        sizeBytes: Number(headers['content-length']),
        md5: (headers['etag'] ?? '').replaceAll('"', ''),
        modifiedAtMs: Date.parse(headers['last-modified'] ?? ''),
      };
    } catch (error) {
      if (isHttpError(error, 404)) return undefined;
      throw error;
    }
  }

  /** Lets an object that expires live for so many seconds from now; false when there is none any more. */
  async renew(name: string, expiresAfterS: number, signal?: AbortSignal): Promise<boolean> {
    try {
      const headers = expiry(expiresAfterS);
      await this.client.send({ method: 'POST', path: this.path(name), headers, signal, repeatable: true });
      return true;
    } catch (error) {
      if (isHttpError(error, 404)) return false;
      throw error;
    }
  }

  /** Removes an object; none there is fine. */
  async remove(name: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.client.send({ method: 'DELETE', path: this.path(name), signal });
    } catch (error) {
      if (!isHttpError(error, 404)) throw error;
    }
  }

  /** All objects whose names begin with `prefix`, in order of name, and the store's time. */
  async list(
    prefix: string,
    signal?: AbortSignal,
  ): Promise<{ readonly objects: ObjectRecord[]; readonly nowMs: number }> {
    const objects: ObjectRecord[] = [];
    for (let marker = ''; ;) {
      const call: ServiceCall = {
        method: 'GET',
        path: `/${pathSegment(this.container)}`,
        query: { format: 'json', prefix, marker, limit: String(LIST_LIMIT) },
        signal,
      };
      const answer = await this.client.send(call).catch((error: unknown) => {
        if (!isHttpError(error, 404)) throw error;
      });
      // Nobody has put anything there yet.
      if (answer === undefined) return { objects, nowMs: Date.now() };
      const page = listingSchema.parse(answer.body ?? []);
      const nowMs = Date.parse(answer.headers['date'] ?? '') || Date.now();
      for (const { name, bytes, hash, last_modified: modified } of page) {
        // Swift gives UTC without saying so.
        const modifiedAtMs = Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(modified) ? modified : `${modified}Z`);
        objects.push({ name, sizeBytes: bytes, md5: hash, modifiedAtMs });
      }
      const last = page.at(-1);
      if (last === undefined) return { objects, nowMs };
      marker = last.name;
    }
  }

  private path(name: string): string {
    return `/${pathSegment(this.container)}/${name.split('/').map(pathSegment).join('/')}`;
  }

  private tooLarge(name: string, maxBytes: number): ObjectRefused {
    return new ObjectRefused(name, `it is larger than ${maxBytes} bytes`);
  }
}

function expiry(afterS: number | undefined): Record<string, string> {
  return afterS === undefined ? {} : { 'X-Delete-After': String(afterS) };
}
