/**
 * HTTP as the service clients need it: kept-alive connections, a timeout on every request, a bounded number of retries
 * where repeating is harmless, and errors that hold no secrets. Knows nothing of tokens and services.
 */
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import axios, { AxiosError, type AxiosInstance, type AxiosResponse } from 'axios';
import { HttpError, RequestTimeout, ServiceUnreachable, UnexpectedAnswer } from './errors';
import { tracedRequest } from './http-trace';

/** One HTTP request. */
export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is, instead of `body`. */
  readonly file?: { readonly path: string; readonly sizeBytes: number };
  /** Sent as they are, instead of `body`. */
  readonly bytes?: Uint8Array;
  /** Until the whole answer is there; for a stream, until its headers are. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Repeating it does no harm, although its method does not say so. */
  readonly repeatable?: boolean;
}

/** An answer, whatever its status; `body` is parsed when it is JSON, else the text, null when there is none. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** An answer whose body is read by the caller, who has to consume or destroy the stream. */
export interface HttpStream {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly stream: Readable;
}

const RETRY_DELAYS_MS = [200, 1_000];
const MAX_BODY_BYTES = 64 * 1024 * 1024;
/** Below the shortest keep-alive of the usual servers, so that a request rarely meets a connection about to close. */
const IDLE_CONNECTION_MS = 4_000;
const NEVER_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);
const OVERLOADED = new Set([502, 503, 504]);

/** The connections to the services of one cloud. */
export class Transport {
  private opening: Promise<AxiosInstance> | undefined;
  private readonly agents: HttpAgent[] = [];

  constructor(
    private readonly tls: { readonly cafile?: string | undefined; readonly insecure?: boolean | undefined },
  ) {}

  /** @throws ServiceUnreachable, RequestTimeout, UnexpectedAnswer, or the reason of `signal` */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    const repeatable = request.repeatable ?? request.method !== 'POST';
    for (let attempt = 0; ; attempt += 1) {
      const delayMs = RETRY_DELAYS_MS[attempt];
      try {
        const answer = await this.sendOnce(request);
        if (delayMs === undefined || !repeatable || !OVERLOADED.has(answer.status)) return answer;
      } catch (error) {
        const harmless = error instanceof ServiceUnreachable && (repeatable || !error.sent);
        if (delayMs === undefined || !harmless) throw error;
      }
      await pause(delayMs, request.signal);
    }
  }

  /** Sends a GET once; the answer arrives with its headers. */
  async stream(request: HttpRequest): Promise<HttpStream> {
    const http = await this.open();
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), request.timeoutMs);
    try {
      const response = await perform<Readable>(http, request, deadline.signal, 'stream');
      return { status: response.status, headers: plainHeaders(response), stream: response.data };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes all connections. */
  close(): void {
    for (const agent of this.agents) agent.destroy();
  }

  private async sendOnce(request: HttpRequest): Promise<HttpAnswer> {
    const http = await this.open();
    const response = await perform<string>(http, request, AbortSignal.timeout(request.timeoutMs), 'text');
    return { status: response.status, headers: plainHeaders(response), body: parseBody(response, request) };
  }

  private open(): Promise<AxiosInstance> {
    this.opening ??= this.create();
    return this.opening;
  }

  private async create(): Promise<AxiosInstance> {
    const ca = this.tls.cafile === undefined ? undefined : await readFile(this.tls.cafile);
    const pool = { keepAlive: true, maxSockets: 32, timeout: IDLE_CONNECTION_MS };
    const httpAgent = new HttpAgent(pool);
    const httpsAgent = new HttpsAgent({
      ...pool,
      rejectUnauthorized: this.tls.insecure !== true,
      ...(ca === undefined ? {} : { ca }),
    });
    this.agents.push(httpAgent, httpsAgent);
    return axios.create({
      httpAgent,
      httpsAgent,
      // A redirect would take the token somewhere else, and a proxy of the environment is not in nova.conf.
      maxRedirects: 0,
      proxy: false,
      maxContentLength: MAX_BODY_BYTES,
      validateStatus: () => true,
      transformResponse: (data: unknown) => data,
    });
  }
}

/** A URL for messages: no query, no user info. */
export function publicUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** Makes the error for an answer that the caller cannot use. */
export function httpError(
  request: Pick<HttpRequest, 'method' | 'url'>,
  status: number,
  body: unknown,
): HttpError {
  const { message, type } = explain(body);
  return new HttpError(request.method, publicUrl(request.url), status, message, type);
}

async function perform<T>(
  http: AxiosInstance,
  request: HttpRequest,
  deadline: AbortSignal,
  responseType: 'text' | 'stream',
): Promise<AxiosResponse<T>> {
  const url = publicUrl(request.url);
  request.signal?.throwIfAborted();
  try {
    return await tracedRequest({ method: request.method, url }, (traceHeaders) =>
      http.request<T>({
        method: request.method,
        url: request.url.href,
        headers: {
          ...(request.body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...(request.file === undefined ? {} : { 'Content-Length': String(request.file.sizeBytes) }),
          ...request.headers,
          ...traceHeaders,
        },
        ...(request.body === undefined ? {} : { data: JSON.stringify(request.body) }),
        ...(request.bytes === undefined ? {} : { data: Buffer.from(request.bytes), maxBodyLength: Infinity }),
        ...(request.file === undefined
          ? {}
          : { data: createReadStream(request.file.path), maxBodyLength: Infinity }),
        responseType,
        decompress: responseType === 'text',
        maxContentLength: responseType === 'text' ? MAX_BODY_BYTES : -1,
        signal: request.signal === undefined ? deadline : AbortSignal.any([request.signal, deadline]),
      }),
    );
  } catch (error) {
    request.signal?.throwIfAborted();
    if (deadline.aborted) throw new RequestTimeout(request.method, url, request.timeoutMs);
    // An AxiosError holds the request's headers, token included: only its words go on.
    const code = error instanceof AxiosError && error.code !== undefined ? error.code : 'unknown';
    const words = error instanceof Error ? error.message : String(error);
    throw new ServiceUnreachable(request.method, url, code, !NEVER_SENT.has(code), {
      cause: new Error(words),
    });
  }
}

function plainHeaders(response: AxiosResponse): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(response.headers)) headers[name.toLowerCase()] = String(value);
  return headers;
}

function parseBody(response: AxiosResponse<string>, request: HttpRequest): unknown {
  const text = response.data;
  if (text === '') return null;
  if (!plainHeaders(response)['content-type']?.includes('json')) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new UnexpectedAnswer(request.method, publicUrl(request.url), 'the body is not JSON');
  }
}

/** Finds the words in the error bodies of Keystone, Neutron, Placement, Glance and their web servers. */
function explain(body: unknown): { message: string; type: string | null } {
  if (typeof body === 'string') return { message: oneLine(body.replace(/<[^>]*>/g, ' ')), type: null };
  if (!isRecord(body)) return { message: '', type: null };
  const first = Array.isArray(body['errors']) ? (body['errors'] as unknown[])[0] : undefined;
  const found = [body['NeutronError'], body['error'], first].find((part) => part !== undefined) ?? body;
  if (!isRecord(found)) return { message: typeof found === 'string' ? oneLine(found) : '', type: null };
  const words = found['message'] ?? found['detail'] ?? found['title'];
  const type = found['type'] ?? (first === undefined ? undefined : found['code']);
  return {
    message: typeof words === 'string' ? oneLine(words) : '',
    type: typeof type === 'string' ? type : null,
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim().slice(0, 500);
}

async function pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(delayMs * (0.75 + Math.random() / 2), undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
