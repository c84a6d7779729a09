/**
 * An object store in memory with a Keystone in front, on loopback: what of Swift's API the store's client uses, with the
 * faults a test asks for. For unit tests and for driving transfers in a loop; what real Swift does is tested with it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Kept {
  content: Buffer;
  modifiedAtMs: number;
  expiresAtMs: number;
}

/** A request for an object: `PUT segments/<digest>`. */
export interface ObjectRequest {
  readonly method: string;
  readonly name: string;
}

export class FakeSwift {
  readonly objects = new Map<string, Kept>();
  /** Requests for objects, as they came. */
  readonly requests: ObjectRequest[] = [];
  /** Answers in place of the store: a status, or bytes whatever the store has. */
  fault: ((request: ObjectRequest) => number | Buffer | undefined) | undefined;
  private skewMs = 0;
  private readonly server: Server;

  private constructor() {
    this.server = createServer((request, response) => {
      this.receive(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
  }

  static async start(port = 0): Promise<FakeSwift> {
    const swift = new FakeSwift();
    await new Promise<void>((resolve) => {
      swift.server.listen(port, '127.0.0.1', resolve);
    });
    return swift;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Names of all objects, in order. */
  get names(): string[] {
    return [...this.objects.keys()].filter((name) => this.find(name) !== undefined).sort();
  }

  /** How often a method was used on names that begin with `prefix`. */
  count(method: string, prefix: string): number {
    return this.requests.filter((one) => one.method === method && one.name.startsWith(prefix)).length;
  }

  /** Lets the store's clock go forward. */
  passTime(ms: number): void {
    this.skewMs += ms;
  }

  /** Forgets everything. */
  reset(): void {
    this.objects.clear();
    this.requests.length = 0;
    this.fault = undefined;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private now(): number {
    return Date.now() + this.skewMs;
  }

  private find(name: string): Kept | undefined {
    const kept = this.objects.get(name);
    return kept !== undefined && kept.expiresAtMs > this.now() ? kept : undefined;
  }

  private async receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const content = Buffer.concat(chunks);
    const url = new URL(request.url ?? '/', this.url);
    response.setHeader('Date', new Date(this.now()).toUTCString());
    if (url.pathname === '/v3/auth/tokens') {
      this.grant(response);
      return;
    }
    const [, , , container, ...rest] = url.pathname.split('/').map(decodeURIComponent);
    const name = rest.join('/');
    const method = request.method ?? '';
    if (container === undefined) response.writeHead(404).end();
    else if (name === '') this.answerContainer(method, url.searchParams, response);
    else this.answerObject({ method, name }, request, content, response);
  }

  private answerContainer(method: string, query: URLSearchParams, response: ServerResponse): void {
    const fault = this.fault?.({ method, name: '' });
    if (typeof fault === 'number') {
      response.writeHead(fault).end();
      return;
    }
    if (method !== 'GET') {
      response.writeHead(201).end();
      return;
    }
    const names = this.names.filter(
      (name) => name.startsWith(query.get('prefix') ?? '') && name > (query.get('marker') ?? ''),
    );
    const page = names.slice(0, 3).flatMap((name) => {
      const kept = this.find(name);
      if (kept === undefined) return [];
      const last_modified = new Date(kept.modifiedAtMs).toISOString().replace('Z', '000');
      return [{ name, bytes: kept.content.length, hash: md5(kept.content), last_modified }];
    });
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(page));
  }

  private answerObject(
    asked: ObjectRequest,
    request: IncomingMessage,
    content: Buffer,
    response: ServerResponse,
  ): void {
    this.requests.push(asked);
    const { method, name } = asked;
    const fault = this.fault?.(asked);
    if (typeof fault === 'number') {
      response.writeHead(fault).end();
      return;
    }
    const kept = this.find(name);
    const afterS = Number(request.headers['x-delete-after'] ?? Infinity);
    const expiresAtMs = this.now() + afterS * 1000;
    if (method === 'PUT') {
      const etag = request.headers['etag'];
      if (request.headers['if-none-match'] === '*' && kept !== undefined) response.writeHead(412).end();
      else if (etag !== undefined && etag !== md5(content)) response.writeHead(422).end();
      else {
        this.objects.set(name, { content, modifiedAtMs: this.now(), expiresAtMs });
        response.writeHead(201).end();
      }
      return;
    }
    if (kept === undefined && fault === undefined) {
      response.writeHead(404).end();
      return;
    }
    if (method === 'DELETE') {
      this.objects.delete(name);
      response.writeHead(204).end();
    } else if (method === 'POST') {
      if (kept !== undefined) kept.expiresAtMs = expiresAtMs;
      response.writeHead(202).end();
    } else {
      const body = fault ?? kept?.content ?? Buffer.alloc(0);
      response.writeHead(200, {
        ETag: md5(body),
        'Content-Length': body.length,
        'Content-Type': 'application/octet-stream',
        'Last-Modified': new Date(kept?.modifiedAtMs ?? 0).toUTCString(),
      });
      response.end(method === 'HEAD' ? undefined : body);
    }
  }

  private grant(response: ServerResponse): void {
    const url = `${this.url}/v1/AUTH_test`;
    const token = {
      expires_at: new Date(Date.now() + 3600_000).toISOString(),
      catalog: [
        { type: 'object-store', endpoints: [{ interface: 'internal', region_id: 'RegionOne', url }] },
      ],
    };
    const headers = { 'Content-Type': 'application/json', 'X-Subject-Token': randomUUID() };
    response.writeHead(201, headers).end(JSON.stringify({ token }));
  }
}

function md5(content: Buffer): string {
  return createHash('md5').update(content).digest('hex');
}
