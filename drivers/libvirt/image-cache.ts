/**
 * Base images of this host: `instances_path/_base/<sha1 of the image's id>`, as by Nova. An image is fetched once however
 * many servers wait for it, and inspected before anything opens it. Files appear under their name only when they are whole.
 */
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { publish } from '../../lib/durable';
import { ImageUnacceptable } from '../../lib/exceptions';
import type { ImageSpec, ImageTrust } from '../driver';
import { inspectImage, type ImageFormat, type InspectedImage } from './image-inspector';
import { exists } from './instance-store';
import { run } from './program';
import { baseNameOf, markUsed } from './unused-images';

/** Converting is bounded by the disk: generous, but an end. */
const CONVERT_TIMEOUT_MS = 30 * 60_000;
const UNFINISHED = '.part';

/** Where images come from: writes the bytes of image `id` to `toPath`, verified against checksum and signature. */
export interface ImageSource {
  download(
    id: string,
    toPath: string,
    options: { readonly signal: AbortSignal; readonly trust?: ImageTrust },
  ): Promise<unknown>;
}

/** An image on this host's disk; never written to again. */
export interface BaseImage {
  readonly path: string;
  readonly format: ImageFormat;
  readonly virtualSizeBytes: number;
}

interface Fetching {
  readonly image: Promise<BaseImage>;
  readonly abort: AbortController;
  waiting: number;
}

/** The base images under one `instances_path`. */
export class ImageCache {
  readonly directory: string;
  private readonly fetching = new Map<string, Fetching>();

  constructor(
    instancesPath: string,
    private readonly source: ImageSource,
    private readonly options: { readonly forceRaw: boolean; readonly logger: Logger },
  ) {
    this.directory = join(instancesPath, '_base');
  }

  /** Removes what interrupted fetches left; not while another process may be fetching for itself. */
  async removeUnfinished(): Promise<void> {
    await mkdir(this.directory, { recursive: true });
    const left = (await readdir(this.directory)).filter((name) => name.includes(UNFINISHED));
    await Promise.all(left.map((name) => rm(join(this.directory, name), { force: true })));
  }

  /**
   * The base file of `image`, fetched if need be; as by Nova, signatures are verified only then. Aborting one of several waiting callers does not stop the others' fetch.
   * @throws ImageUnacceptable; what the source throws
   */
  async ensure(image: ImageSpec, signal: AbortSignal): Promise<BaseImage> {
    signal.throwIfAborted();
    const fetching = this.fetching.get(image.id) ?? this.begin(image);
    fetching.waiting += 1;
    let abandon: () => void = () => undefined;
    const aborted = new Promise<never>((_, reject) => {
      abandon = () => reject(toError(signal.reason));
      signal.addEventListener('abort', abandon, { once: true });
    });
    try {
      return await Promise.race([fetching.image, aborted]);
    } finally {
      signal.removeEventListener('abort', abandon);
      fetching.waiting -= 1;
      if (fetching.waiting === 0) fetching.abort.abort(new Error('nobody waits for the image any more'));
    }
  }

  /** Whether the image is here, whole. */
  async has(image: Pick<ImageSpec, 'id'>): Promise<boolean> {
    return await exists(this.pathOf(image));
  }

  private begin(image: ImageSpec): Fetching {
    const abort = new AbortController();
    const work = this.open(image, abort.signal);
    const fetching: Fetching = { image: work, abort, waiting: 0 };
    this.fetching.set(image.id, fetching);
    const forget = (): void => {
      if (this.fetching.get(image.id) === fetching) this.fetching.delete(image.id);
    };
    abort.signal.addEventListener('abort', forget, { once: true });
    work.then(forget, forget);
    return fetching;
  }

  private async open(image: ImageSpec, signal: AbortSignal): Promise<BaseImage> {
    refuseByRecord(image);
    const path = this.pathOf(image);
    if (await exists(path)) await markUsed(path);
    else await this.fetch(image, path, signal);
    return { path, ...(await inspectImage(path, image.id)) };
  }

  private pathOf({ id }: Pick<ImageSpec, 'id'>): string {
    return join(this.directory, baseNameOf(id));
  }

  private async fetch(image: ImageSpec, path: string, signal: AbortSignal): Promise<void> {
    const temporary = `${path}.${process.hrtime.bigint()}${UNFINISHED}`;
    const converted = `${temporary}.raw`;
    try {
      this.options.logger.info({ image: image.id, sizeBytes: image.sizeBytes }, 'fetching image');
      await mkdir(this.directory, { recursive: true });
      const { trust } = image;
      await this.source.download(image.id, temporary, { signal, ...(trust === undefined ? {} : { trust }) });
      const inspected = await inspectImage(temporary, image.id);
      refuseByContent(image, inspected);
      if (this.options.forceRaw && inspected.format !== 'raw') {
        await this.convert(temporary, inspected.format, converted, signal);
        // Raw content that looks like a header would be taken for one the next time it is looked at.
        if ((await inspectImage(converted, image.id)).format !== 'raw') {
          throw new ImageUnacceptable(`Image ${image.id} is unacceptable: it holds another image`);
        }
        await publish(converted, path);
      } else {
        await publish(temporary, path);
      }
    } finally {
      await Promise.all([temporary, converted].map((name) => rm(name, { force: true })));
    }
  }

  private async convert(from: string, format: ImageFormat, to: string, signal: AbortSignal): Promise<void> {
    const args = ['convert', '-t', 'none', '-T', 'none', '-f', format, '-O', 'raw', from, to];
    await run('qemu-img', args, { timeoutMs: CONVERT_TIMEOUT_MS, signal });
    const file = await open(to, 'r+');
    await file.sync().finally(() => file.close());
  }
}

/** Refuses what Glance's record of the image already rules out. */
function refuseByRecord(image: ImageSpec): void {
  if (image.containerFormat !== 'bare') {
    throw new ImageUnacceptable(
      `Image ${image.id} is unacceptable: container format ${image.containerFormat} is not supported`,
    );
  }
  if (image.diskFormat !== 'qcow2' && image.diskFormat !== 'raw') {
    throw new ImageUnacceptable(
      `Image ${image.id} is unacceptable: disk format ${image.diskFormat} is not supported`,
    );
  }
}

/** Refuses content that is not of the format that Glance's record says: who uploads a disguise has a reason. */
function refuseByContent(image: ImageSpec, inspected: InspectedImage): void {
  if (inspected.format !== image.diskFormat) {
    throw new ImageUnacceptable(
      `Image ${image.id} is unacceptable: its content is ${inspected.format}, its disk format ${image.diskFormat}`,
    );
  }
}

function toError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}
