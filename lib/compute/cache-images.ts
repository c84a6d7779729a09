/**
 * Images fetched before a server wants them (nova/compute/manager.py, cache_images; `nova aggregate-cache-images`). What
 * makes an image start fast here is its µVM, so that one is asked for as well.
 */
import { z } from 'zod';
import type { ComputeDriver, ImageTrust } from '../../drivers/driver';
import type { Templates } from '../bake';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import type { Glance } from '../openstack';

/** What caching works with. */
export interface ImageCachingParts {
  readonly driver: Pick<ComputeDriver, 'cacheImage'>;
  readonly glance: Pick<Glance, 'show'>;
  readonly templates: Pick<Templates, 'wanted'>;
  readonly logger: Logger;
}

const idsSchema = z.array(z.string());

/** @returns what became of each image, in Nova's words; never rejects for an image's sake */
export async function cacheImages(
  { driver, glance, templates, logger }: ImageCachingParts,
  requester: ImageTrust['requester'],
  imageIds: unknown,
): Promise<Readonly<Record<string, 'cached' | 'existing' | 'error'>>> {
  const results: Record<string, 'cached' | 'existing' | 'error'> = {};
  for (const id of idsSchema.parse(imageIds)) {
    try {
      const image = { ...(await glance.show(id)), trust: { certificateIds: [], requester } };
      results[id] = (await driver.cacheImage(image)) ? 'cached' : 'existing';
      templates.wanted(image);
    } catch (error) {
      logger.warn({ image: id }, `the image was not cached: ${describeError(error)}`);
      results[id] = 'error';
    }
  }
  return results;
}
