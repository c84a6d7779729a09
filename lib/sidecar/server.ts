/**
 * The HTTP server beside the service: the page at `/`, `/healthz`, `/readyz`, `/metrics`, `/boots`. It listens on
 * loopback unless the operator says otherwise, asks for the token if there is one, and changes nothing without one.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { Access } from './access';
import type { BakeRecorder } from './bake-recorder';
import type { BootRecorder } from './boot-recorder';
import { type CacheActions, type CacheView, cacheRoutes } from './cache-routes';
import type { Metrics } from './metrics';
import { PUBLIC_PATHS, pageRoutes, securityHeaders } from './page';
import { type ReadinessCheck, checkReadiness } from './readiness';

/** A check that takes longer says that its dependency is down. */
const CHECK_TIMEOUT_MS = 3000;

export interface SidecarOptions {
  /** `[prebake] sidecar_listen`; port 0 lets the kernel choose. */
  readonly listen: { readonly host: string; readonly port: number };
  /** Dependencies by name: amqp, conductor, libvirt, placement. */
  readonly checks: ReadonlyMap<string, ReadinessCheck>;
  readonly boots: BootRecorder;
  /** What the page shows besides boots, and can have done. */
  readonly host: string;
  readonly bakes: BakeRecorder;
  readonly cache: CacheView;
  readonly actions: CacheActions;
  /** `[prebake] sidecar_token`: asked of everybody; null answers whoever asks by a loopback name. */
  readonly token?: string | null;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** How long each check may take; 3 s unless told. */
  readonly checkTimeoutMs?: number;
}

/** A listening sidecar. */
export interface Sidecar {
  /** Where it listens, without a trailing slash. */
  readonly url: string;
  close(): Promise<void>;
}

function routes(options: SidecarOptions): Express {
  const app = express();
  app.disable('x-powered-by');
  const access = new Access(options.token ?? null);
  app.use(securityHeaders);
  app.use((request, response, next) => {
    if (PUBLIC_PATHS.includes(request.path) && options.token) next();
    else access.guard(request, response, next);
  });
  app.post('/login', express.urlencoded({ extended: false, limit: 4096 }), access.login);
  const { host, boots, bakes, cache, actions } = options;
  const writable = Boolean(options.token);
  app.use(pageRoutes({ host, boots, bakes, cache, writable }, options.logger));
  app.use(cacheRoutes(cache, actions, writable));
  app.get('/healthz', (_request, response) => {
    response.json({ status: 'ok', pid: process.pid, uptimeS: Math.round(process.uptime()) });
  });
  app.get('/readyz', async (_request, response) => {
    const report = await checkReadiness(options.checks, options.checkTimeoutMs ?? CHECK_TIMEOUT_MS);
    response.status(report.ready ? 200 : 503).json(report);
  });
  app.get('/metrics', async (_request, response) => {
    response.type(options.metrics.contentType).send(await options.metrics.render());
  });
  app.get('/boots', (_request, response) => {
    response.json({ boots: options.boots.recent() });
  });
  app.use((request, response) => {
    response.status(404).json({
      error: `there is no ${request.path}`,
      paths: ['/', '/healthz', '/readyz', '/metrics', '/boots', '/overview', '/events', '/bakes', '/uvms'],
    });
  });
  // Express knows an error handler by its four parameters.
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    options.logger.error({ err: error, path: request.path }, `sidecar: ${describeError(error)}`);
    response.status(500).json({ error: 'internal error, see the log' });
  });
  return app;
}

/** The URL of an address to listen on, without a trailing slash. */
export function sidecarUrl(listen: SidecarOptions['listen']): string {
  return `http://${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${listen.port}`;
}

/**
 * Starts listening.
 * @throws Error that names the address when it cannot be listened on
 */
export async function createSidecar(options: SidecarOptions): Promise<Sidecar> {
  const { host, port } = options.listen;
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5000 }, routes(options));
  try {
    server.listen(port, host);
    await once(server, 'listening');
  } catch (error) {
    throw new Error(
      `[prebake] sidecar_listen: cannot listen on ${host} port ${port}: ${describeError(error)}`,
      {
        cause: error,
      },
    );
  }
  const { address, port: boundPort } = server.address() as AddressInfo;
  const url = sidecarUrl({ host: address, port: boundPort });
  options.logger.info({ url }, 'sidecar listens');
  return {
    url,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
