/** The page's routes: its files, which need no build, and the document that it shows, once or live. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type NextFunction, type Request, type Response, Router } from 'express';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { packageRoot } from '../version';
import type { CacheView } from './cache-routes';
import { LiveFeed } from './live-feed';
import { type CacheState, type OverviewSources, overview } from './overview';

/** Reading the manifests of a large cache every second would be too much. */
const CACHE_MAX_AGE_MS = 5000;
const FILES = new Map([
  ['/', 'index.html'],
  ['/page.css', 'page.css'],
  ['/page.js', 'page.js'],
  ['/draw.js', 'draw.js'],
  ['/icon.svg', 'icon.svg'],
]);
/** Of these nothing is secret, and who is to log in needs them. */
export const PUBLIC_PATHS: readonly string[] = ['/login', '/page.css', '/icon.svg', '/healthz'];

/** What the page is made from. */
export interface PageSources extends OverviewSources {
  readonly cache: CacheView;
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
  router.get('/login', async (request, response) => {
    const html = await readFile(join(root, 'login.html'), 'utf8');
    const wrong = 'wrong' in request.query;
    response.type('html').send(wrong ? html.replace(/(<span id="wrong"[^>]*) hidden/, '$1') : html);
  });
  for (const [path, file] of FILES) {
    router.get(path, (_request, response) => response.sendFile(file, { root, cacheControl: false }));
  }
  const cache = new AgedState(async () => {
    const [entries, budget] = await Promise.all([sources.cache.list(), sources.cache.budget()]);
    return { entries, budget };
  });
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

/** The state of the cache, read again when it has grown old. */
class AgedState {
  private latest: { readonly state: Promise<CacheState>; readonly atMs: number } | undefined;

  constructor(private readonly read: () => Promise<CacheState>) {}

  get(): Promise<CacheState> {
    if (this.latest === undefined || Date.now() - this.latest.atMs > CACHE_MAX_AGE_MS) {
      const state = this.read();
      this.latest = { state, atMs: Date.now() };
      state.catch(() => (this.latest = undefined));
    }
    return this.latest.state;
  }
}
