/** The page's routes: its files, which need no build, and the document that it shows, once or live. */
import { join } from 'node:path';
import { type NextFunction, type Request, type Response, Router } from 'express';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import type { CacheEntry } from '../squirrel';
import { packageRoot } from '../version';
import { LiveFeed } from './live-feed';
import { type OverviewSources, overview } from './overview';

/** Reading the manifests of a large cache every second would be too much. */
const CACHE_MAX_AGE_MS = 5000;
const FILES = new Map([
  ['/', 'index.html'],
  ['/login', 'login.html'],
  ['/page.css', 'page.css'],
  ['/page.js', 'page.js'],
  ['/draw.js', 'draw.js'],
  ['/icon.svg', 'icon.svg'],
]);
/** Of these nothing is secret, and who is to log in needs them. */
export const PUBLIC_PATHS: readonly string[] = ['/login', '/page.css', '/icon.svg', '/healthz'];

/** What the page is made from. */
export interface PageSources extends OverviewSources {
  listCache(): Promise<readonly CacheEntry[]>;
}

/** Nothing from elsewhere, nothing inline, in no frame. */
export function securityHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.set({
    'Content-Security-Policy':
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
      "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-store',
  });
  next();
}

export function pageRoutes(sources: PageSources, logger: Logger): Router {
  const router = Router();
  const root = join(packageRoot(), 'lib', 'sidecar', 'page');
  for (const [path, file] of FILES) {
    router.get(path, (_request, response) => response.sendFile(file, { root, cacheControl: false }));
  }
  const cache = new AgedList(() => sources.listCache());
  const compute = async (): Promise<unknown> => overview(sources, await cache.get());
  const feed = new LiveFeed(compute, (error) => logger.warn(`page: ${describeError(error)}`));
  router.get('/overview', async (_request, response) => {
    response.json(await compute());
  });
  router.get('/events', (_request, response) => {
    if (!feed.add(response)) response.status(503).json({ error: 'too many viewers' });
  });
  return router;
}

/** A list that is read again when it has grown old. */
class AgedList {
  private latest: { readonly entries: Promise<readonly CacheEntry[]>; readonly atMs: number } | undefined;

  constructor(private readonly read: () => Promise<readonly CacheEntry[]>) {}

  get(): Promise<readonly CacheEntry[]> {
    if (this.latest === undefined || Date.now() - this.latest.atMs > CACHE_MAX_AGE_MS) {
      const entries = this.read();
      this.latest = { entries, atMs: Date.now() };
      entries.catch(() => (this.latest = undefined));
    }
    return this.latest.entries;
  }
}
