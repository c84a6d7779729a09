/**
 * The sidecar's routes about µVMs: where the bytes of one are, and the two changes an operator makes from the page, bake and
 * evict. Changes are for who has the token, also on loopback: any local user can ask there.
 */
import express, { type NextFunction, type Request, type Response, Router } from 'express';
import { z } from 'zod';
import { describeError } from '../exceptions';
import type { CacheBudget, CacheEntry, UvmUsage } from '../squirrel';

/** The cache as the sidecar sees it. */
export interface CacheView {
  list(): Promise<readonly CacheEntry[]>;
  budget(): Promise<CacheBudget>;
  /** @throws UnknownUvm */
  usage(key: string): Promise<UvmUsage>;
}

/** What the page can have done. */
export interface CacheActions {
  /** Queues the bake of an image; what becomes of it is seen among the bakes. Rejects when there is no such image. */
  bake(imageId: string): Promise<void>;
  /** Removes a µVM; servers made from it live on. */
  evict(key: string): Promise<void>;
}

const NO_TOKEN =
  'bakes and evictions from here need a token: set [prebake] sidecar_token, and log in with it';
const bakeSchema = z.strictObject({ imageId: z.uuid() });
const keySchema = z.string().regex(/^[0-9a-f]{64}$/);

/** @param writable whether a token is set, which the caller has checked by then */
export function cacheRoutes(cache: CacheView, actions: CacheActions, writable: boolean): Router {
  const router = Router();
  const onlyWithToken = (_request: Request, response: Response, next: NextFunction): void => {
    if (writable) next();
    else response.status(403).json({ error: NO_TOKEN });
  };
  router.get('/uvms/:key/usage', async (request, response) => {
    const key = keySchema.safeParse(request.params.key);
    if (!key.success || !(await cache.list()).some((entry) => entry.key === key.data)) {
      response.status(404).json({ error: 'there is no such µVM' });
      return;
    }
    response.json(await cache.usage(key.data));
  });
  router.post('/bakes', onlyWithToken, express.json({ limit: 4096 }), async (request, response) => {
    const body = bakeSchema.safeParse(request.body);
    if (!body.success) {
      response.status(400).json({ error: `say which image: {"imageId": "<its UUID in Glance>"}` });
      return;
    }
    try {
      await actions.bake(body.data.imageId);
      response.status(202).json({ imageId: body.data.imageId });
    } catch (error) {
      response.status(409).json({ error: describeError(error) });
    }
  });
  router.delete('/uvms/:key', onlyWithToken, async (request, response) => {
    const key = keySchema.safeParse(request.params.key);
    if (!key.success || !(await cache.list()).some((entry) => entry.key === key.data)) {
      response.status(404).json({ error: 'there is no such µVM' });
      return;
    }
    await actions.evict(key.data);
    response.status(204).end();
  });
  return router;
}
