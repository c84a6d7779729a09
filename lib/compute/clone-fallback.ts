/**
 * What happens to a server whose clone did not become itself: it has never had a network, so that it is ended and boots cold
 * from its image, and its µVM is not offered again.
 */
import type { ComputeDriver, SpawnRequest } from '../../drivers/driver';
import type { Squirrel } from '../squirrel';
import { Timeline } from '../timeline';

/** What the fallback works with. */
export interface CloneFallbackParts {
  readonly driver: Pick<ComputeDriver, 'spawn' | 'destroy'>;
  readonly squirrel: Pick<Squirrel, 'quarantine'>;
}

/** @param request as the clone was spawned with; nothing is waited for that the clone has got already */
export async function bootColdInstead(
  { driver, squirrel }: CloneFallbackParts,
  request: Omit<SpawnRequest, 'template' | 'timeline' | 'vifsPlugged'>,
  uvmKey: string,
  why: string,
): Promise<void> {
  await squirrel.quarantine(uvmKey, why);
  await driver.destroy(request.instance);
  await driver.spawn({
    ...request,
    template: { none: why },
    vifsPlugged: () => Promise.resolve(),
    timeline: new Timeline(),
  });
}
