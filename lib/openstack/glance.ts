/** Images as Glance describes them, and their bytes. What an image's contents are worth is judged elsewhere. */
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { ImageNotFound, ImageUnacceptable } from '../exceptions';
import { downloadVerified, type BytesCheck, type DownloadProgress } from './download';
import { isHttpError } from './errors';
import { pathSegment, type KeystoneSession } from './keystone';
import type { EndpointOptions } from './options';
import { ServiceClient } from './service-client';

/** An image's record; fits where the driver asks for an `ImageSpec`. */
export interface GlanceImage {
  readonly id: string;
  readonly name: string;
  /** `active` when it can be downloaded. */
  readonly status: string;
  readonly diskFormat: string;
  readonly containerFormat: string;
  readonly sizeBytes: number;
  /** Size of the disk inside, null when Glance does not know it. */
  readonly virtualSizeBytes: number | null;
  readonly minDiskGb: number;
  readonly minRamMb: number;
  /** MD5 in hex, null when the image has none. */
  readonly checksum: string | null;
  /** `sha512` and its hex digest, null for images older than multihash. */
  readonly hash: { readonly algorithm: string; readonly value: string } | null;
  readonly tags: readonly string[];
  /** Everything that is not one of Glance's own fields, as `hw_*` and `prebake*`. */
  readonly properties: Readonly<Record<string, string>>;
}

/** What may be given to a download. */
export interface DownloadOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Asked once before the download for what makes a check of all bytes, besides the checksum; one for each attempt. */
  readonly signature?: (image: GlanceImage) => Promise<() => BytesCheck>;
}

const OWN_FIELDS = new Set(
  (
    'id name status visibility size virtual_size checksum disk_format container_format protected min_ram min_disk ' +
    'owner os_hidden os_hash_algo os_hash_value created_at updated_at self file schema tags locations direct_url stores'
  ).split(' '),
);

const UPLOAD_TIMEOUT_MS = 60_000;
const SLOWEST_UPLOAD_BYTES_PER_S = 1024 ** 2;

const ImageAnswer = z.looseObject({
  id: z.string(),
  name: z.string().nullish(),
  status: z.string(),
  disk_format: z.string().nullish(),
  container_format: z.string().nullish(),
  size: z.number().nullish(),
  virtual_size: z.number().nullish(),
  min_disk: z.number().default(0),
  min_ram: z.number().default(0),
  checksum: z.string().nullish(),
  os_hash_algo: z.string().nullish(),
  os_hash_value: z.string().nullish(),
  tags: z.array(z.string()).default([]),
});

const ImageListAnswer = z.looseObject({ images: z.array(ImageAnswer) });

/** A client of Glance's v2 API. */
export class Glance {
  private readonly client: ServiceClient;

  constructor(session: KeystoneSession, endpoint: EndpointOptions = {}) {
    this.client = new ServiceClient(session, 'image', endpoint);
  }

  /** @throws ImageNotFound when there is no such image or it may not be seen */
  async show(imageId: string, signal?: AbortSignal): Promise<GlanceImage> {
    try {
      const path = `/v2/images/${pathSegment(imageId)}`;
      return imageFrom(await this.client.request(ImageAnswer, { method: 'GET', path, signal }));
    } catch (error) {
      throw notFound(error, imageId);
    }
  }

  /** Images of exactly this name that may be seen; names need not be unique. */
  async findByName(name: string, signal?: AbortSignal): Promise<GlanceImage[]> {
    const call = { method: 'GET', path: '/v2/images', query: { name }, signal } as const;
    return (await this.client.request(ImageListAnswer, call)).images.map(imageFrom);
  }

  /** All images that may be seen, hidden ones left out. */
  async list(signal?: AbortSignal): Promise<GlanceImage[]> {
    const found: GlanceImage[] = [];
    for (let marker: string | undefined; ;) {
      const query = { visibility: 'all', limit: '500', ...(marker === undefined ? {} : { marker }) };
      const { images } = await this.client.request(ImageListAnswer, {
        method: 'GET',
        path: '/v2/images',
        query,
        signal,
      });
      marker = images.at(-1)?.id;
      if (marker === undefined) return found;
      found.push(...images.map(imageFrom));
    }
  }

  /**
   * Writes an image's bytes to `toPath`, which appears only once size and checksum are right and the bytes are on disk.
   * @throws ImageNotFound; ImageUnacceptable when the image has no data (yet); SignatureVerificationError when the
   *   bytes are not those that Glance promised or that were signed; DiskSpaceExhausted; what `signature` throws; the
   *   errors of a service call
   */
  async download(imageId: string, toPath: string, options: DownloadOptions = {}): Promise<GlanceImage> {
    const image = await this.show(imageId, options.signal);
    if (image.status !== 'active') {
      throw new ImageUnacceptable(
        `Image ${imageId} is unacceptable: its status is ${image.status}, not active`,
      );
    }
    const newCheck = await options.signature?.(image);
    const path = `/v2/images/${pathSegment(imageId)}/file`;
    const headers = { Accept: 'application/octet-stream' };
    const open = async (): Promise<Readable> => {
      const { stream } = await this.client.stream({ method: 'GET', path, headers, signal: options.signal });
      return stream;
    };
    try {
      await downloadVerified(open, toPath, { ...image, newCheck }, options);
    } catch (error) {
      throw notFound(error, imageId);
    }
    return image;
  }

  /**
   * Sets fields and properties of an image; those it has are replaced.
   * @throws ImageNotFound
   */
  async update(imageId: string, values: Readonly<Record<string, string>>): Promise<void> {
    const body = Object.entries(values).map(([name, value]) => ({
      // To Glance, `add` is also how a custom property is replaced; its own fields know `replace` only.
      op: OWN_FIELDS.has(name) ? 'replace' : 'add',
      path: `/${name.replace(/~/g, '~0').replace(/\//g, '~1')}`,
      value,
    }));
    const path = `/v2/images/${pathSegment(imageId)}`;
    const headers = { 'Content-Type': 'application/openstack-images-v2.1-json-patch' };
    try {
      await this.client.send({ method: 'PATCH', path, headers, body });
    } catch (error) {
      throw notFound(error, imageId);
    }
  }

  /**
   * Gives a queued image its data.
   * @throws ImageNotFound when it was deleted meanwhile
   */
  async upload(
    imageId: string,
    file: { readonly path: string; readonly sizeBytes: number },
    signal?: AbortSignal,
  ): Promise<void> {
    const path = `/v2/images/${pathSegment(imageId)}/file`;
    const headers = { 'Content-Type': 'application/octet-stream' };
    const timeoutMs = UPLOAD_TIMEOUT_MS + Math.ceil((file.sizeBytes / SLOWEST_UPLOAD_BYTES_PER_S) * 1000);
    const call = { method: 'PUT', path, headers, file, signal, timeoutMs, repeatable: false } as const;
    try {
      await this.client.send(call);
    } catch (error) {
      throw notFound(error, imageId);
    }
  }

  /** Ids of the images with these properties, newest first. */
  async findByProperties(properties: Readonly<Record<string, string>>): Promise<string[]> {
    const ids: string[] = [];
    for (let marker: string | undefined; ;) {
      const query: Record<string, string> = {
        ...properties,
        sort: 'created_at:desc',
        ...(marker === undefined ? {} : { marker }),
      };
      const { images } = await this.client.request(ImageListAnswer, {
        method: 'GET',
        path: '/v2/images',
        query,
      });
      marker = images.at(-1)?.id;
      if (marker === undefined) return ids;
      ids.push(...images.map(({ id }) => id));
    }
  }

  /** Deletes an image's record and data; one that is gone already is fine. */
  async delete(imageId: string): Promise<void> {
    try {
      await this.client.send({ method: 'DELETE', path: `/v2/images/${pathSegment(imageId)}` });
    } catch (error) {
      if (!isHttpError(error, 404)) throw error;
    }
  }
}

function imageFrom(answer: z.infer<typeof ImageAnswer>): GlanceImage {
  const properties: Record<string, string> = {};
  for (const [name, value] of Object.entries(answer)) {
    if (!OWN_FIELDS.has(name) && typeof value === 'string') properties[name] = value;
  }
  const { os_hash_algo: algorithm, os_hash_value: value } = answer;
  return {
    id: answer.id,
    name: answer.name ?? '',
    status: answer.status,
    diskFormat: answer.disk_format ?? '',
    containerFormat: answer.container_format ?? '',
    sizeBytes: answer.size ?? 0,
    virtualSizeBytes: answer.virtual_size ?? null,
    minDiskGb: answer.min_disk,
    minRamMb: answer.min_ram,
    checksum: answer.checksum ?? null,
    hash: typeof algorithm === 'string' && typeof value === 'string' ? { algorithm, value } : null,
    tags: answer.tags,
    properties,
  };
}

function notFound(error: unknown, imageId: string): unknown {
  if (!isHttpError(error, 403, 404)) return error;
  return new ImageNotFound(`Image ${imageId} could not be found.`, { cause: error });
}
