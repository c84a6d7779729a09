/** The image that is meant by a name or an id. */
import type { Glance, GlanceImage } from '../openstack';
import { CommandError, EXIT } from './output';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** @throws CommandError when there is none, or more than one of that name */
export async function findImage(glance: Glance, nameOrId: string, signal: AbortSignal): Promise<GlanceImage> {
  if (UUID.test(nameOrId)) return glance.show(nameOrId, signal);
  const images = await glance.findByName(nameOrId, signal);
  const [first] = images;
  if (first === undefined) throw new CommandError(`Glance has no image named '${nameOrId}'`);
  if (images.length > 1) {
    const ids = images.map((image) => image.id).join(', ');
    throw new CommandError(`several images are named '${nameOrId}', use an id: ${ids}`, EXIT.usage);
  }
  return first;
}
