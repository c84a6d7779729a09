/** A Keystone and whatever services a test scripts, on one port of loopback: for clients that need answers, not a cloud. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request as it arrived; `body` is parsed. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: unknown;
}

/** What to answer: status and JSON body, or anything done to the raw response. */
export type Answer =
  | { readonly status: number; readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> }
  | ((response: ServerResponse) => void);

export class LocalCloud {
  readonly seen: Seen[] = [];
  /** Tokens handed out so far; the newest is `token-<n>`. */
  tokens = 0;
  tokenLifeS = 3600;
  private readonly server: Server;

  private constructor(private readonly route: (request: Seen) => Answer | undefined) {
    this.server = createServer((request, response) => {
      this.receive(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
  }

  /** @param route answers every request but Keystone's; undefined becomes 404 */
  static async start(route: (request: Seen) => Answer | undefined): Promise<LocalCloud> {
    const cloud = new LocalCloud(route);
    await new Promise<void>((resolve) => {
      cloud.server.listen(0, '127.0.0.1', resolve);
    });
    return cloud;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Requests that came, without those to Keystone: `GET /v2.0/ports`. */
  get calls(): string[] {
    return this.seen
      .filter(({ path }) => !path.startsWith('/v3/'))
      .map(({ method, path }) => `${method} ${path}`);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private async receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const url = new URL(request.url ?? '/', this.url);
    const seen: Seen = {
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: text === '' ? null : (JSON.parse(text) as unknown),
    };
    this.seen.push(seen);
    const answer = this.route(seen) ?? (seen.path === '/v3/auth/tokens' ? this.grant() : { status: 404 });
    if (typeof answer === 'function') {
      answer(response);
      return;
    }
    response.writeHead(answer.status, { 'Content-Type': 'application/json', ...answer.headers });
    response.end(answer.body === undefined ? '' : JSON.stringify(answer.body));
  }

  private grant(): Answer {
    this.tokens += 1;
    const endpoints = (path: string) => [
      { interface: 'public', region_id: 'RegionOne', url: `${this.url}${path}` },
      { interface: 'internal', region_id: 'RegionTwo', url: `${this.url}/two` },
    ];
    const catalog = [
      { type: 'placement', endpoints: [{ interface: 'internal', region_id: 'RegionOne', url: this.url }] },
      {
        type: 'network',
        endpoints: [{ interface: 'internal', region_id: 'RegionOne', url: `${this.url}/` }],
      },
      { type: 'image', endpoints: [{ interface: 'public', region_id: 'RegionOne', url: `${this.url}/v2/` }] },
      { type: 'compute', endpoints: endpoints('/one') },
    ];
    const expires_at = new Date(Date.now() + this.tokenLifeS * 1000).toISOString();
    const headers = { 'X-Subject-Token': `token-${this.tokens}` };
    return { status: 201, headers, body: { token: { expires_at, catalog } } };
  }
}
