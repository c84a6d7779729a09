/**
 * A user of the cloud: obtains and renews the token, knows the service catalogue, and sends requests in that user's
 * name. What the requests mean is the service clients' business.
 */
import type { Logger } from 'pino';
import { z } from 'zod';
import { describeError } from '../exceptions';
import { UnexpectedAnswer } from './errors';
import type { AuthOptions, EndpointOptions } from './options';
import {
  httpError,
  publicUrl,
  Transport,
  type HttpAnswer,
  type HttpRequest,
  type HttpStream,
} from './transport';

/** A request to a service, relative to its endpoint. */
export interface ServiceCall {
  readonly method: HttpRequest['method'];
  /** Absolute path below the endpoint's root, such as `/v2.0/ports`; made of `pathSegment`s. */
  readonly path: string;
  /** A list becomes a repeated parameter. */
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is, instead of `body`. */
  readonly file?: { readonly path: string; readonly sizeBytes: number };
  /** Sent as they are, instead of `body`. */
  readonly bytes?: Uint8Array;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
  readonly repeatable?: boolean;
  /** Token of the user in whose name to act; the session's own token then vouches for the service. */
  readonly userToken?: string | undefined;
}

const TokenAnswer = z.object({
  token: z.object({
    expires_at: z.string(),
    catalog: z
      .array(
        z.object({
          type: z.string(),
          endpoints: z.array(
            z.object({ interface: z.string(), region_id: z.string().nullish(), url: z.string() }),
          ),
        }),
      )
      .default([]),
  }),
});

type Catalogue = z.infer<typeof TokenAnswer>['token']['catalog'];

interface Grant {
  readonly token: string;
  readonly expiresAtMs: number;
  /** From then on another one is got while this one is still used. */
  readonly renewAtMs: number;
  readonly catalogue: Catalogue;
}

const DEFAULT_TIMEOUT_MS = 60_000;
/** A token is not used any more this long before its end, so that it does not run out on its way. */
const RENEWAL_MARGIN_MS = 120_000;
/** Longest time before its end, and part of its life, that a token is renewed ahead of need. */
const RENEWAL_AHEAD_MS = 900_000;
const RENEWAL_AHEAD_PART = 4;
const DEFAULT_INTERFACES = ['internal', 'public'];

/** No endpoint of the catalogue fits. */
export class EndpointNotFound extends Error {
  constructor(serviceType: string, interfaces: readonly string[], regionName: string | undefined) {
    const where = regionName === undefined ? '' : ` in region ${regionName}`;
    super(`The catalogue has no ${interfaces.join(' or ')} endpoint of service type ${serviceType}${where}`);
    this.name = 'EndpointNotFound';
  }
}

/** A user of the cloud, authenticated by password. */
export class KeystoneSession {
  private readonly transport: Transport;
  private readonly timeoutMs: number;
  private grant: Grant | undefined;
  private pending: Promise<Grant> | undefined;

  constructor(
    private readonly auth: AuthOptions,
    private readonly logger: Logger,
  ) {
    this.transport = new Transport({ cafile: auth.cafile, insecure: auth.insecure });
    this.timeoutMs = auth.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  /** A token that is valid for at least two more minutes. Concurrent callers share one authentication. */
  async token(): Promise<string> {
    return (await this.authenticated()).token;
  }

  /** Root URL of a service, without a trailing slash and, unless that is asked for, without an API version. */
  async endpoint(serviceType: string, options: EndpointOptions = {}): Promise<string> {
    const root = (url: string): string =>
      options.keepVersion === true ? url.replace(/\/+$/, '') : withoutVersion(url);
    if (options.endpointOverride !== undefined) return root(options.endpointOverride);
    const { catalogue } = await this.authenticated();
    const endpoints = catalogue
      .filter(({ type }) => type === serviceType)
      .flatMap((service) => service.endpoints);
    const interfaces = options.validInterfaces ?? DEFAULT_INTERFACES;
    for (const wanted of interfaces) {
      const found = endpoints.find(
        (endpoint) =>
          endpoint.interface === wanted.replace(/URL$/, '') &&
          (options.regionName === undefined || endpoint.region_id === options.regionName),
      );
      if (found !== undefined) return root(found.url);
    }
    throw new EndpointNotFound(serviceType, interfaces, options.regionName);
  }

  /**
   * Sends a request to a service; an outdated token is renewed once.
   * @throws HttpError for any status other than 2xx; ServiceUnreachable, RequestTimeout, UnexpectedAnswer
   */
  async send(serviceType: string, endpoint: EndpointOptions, call: ServiceCall): Promise<HttpAnswer> {
    const [request, answer] = await this.attempt(serviceType, endpoint, call, (one) =>
      this.transport.send(one),
    );
    if (answer.status < 200 || answer.status > 299) throw httpError(request, answer.status, answer.body);
    return answer;
  }

  /** As `send`, for a body that is read as it arrives. */
  async stream(serviceType: string, endpoint: EndpointOptions, call: ServiceCall): Promise<HttpStream> {
    const [request, answer] = await this.attempt(serviceType, endpoint, call, async (one) => {
      const stream = await this.transport.stream(one);
      if (stream.status !== 200) stream.stream.destroy();
      return stream;
    });
    if (answer.status !== 200) throw httpError(request, answer.status, null);
    return answer;
  }

  /** Closes all connections. */
  close(): void {
    this.transport.close();
  }

  private async attempt<T extends { readonly status: number }>(
    serviceType: string,
    endpoint: EndpointOptions,
    call: ServiceCall,
    send: (request: HttpRequest) => Promise<T>,
  ): Promise<[HttpRequest, T]> {
    for (let renewed = false; ; renewed = true) {
      const token = await this.token();
      const request = this.request(await this.endpoint(serviceType, endpoint), call, token);
      const answer = await send(request);
      if (answer.status !== 401 || renewed) return [request, answer];
      this.logger.info({ serviceType }, 'token refused, authenticating again');
      if (this.grant?.token === token) this.grant = undefined;
    }
  }

  private request(root: string, call: ServiceCall, token: string): HttpRequest {
    const url = new URL(root + call.path);
    for (const [name, values] of Object.entries(call.query ?? {})) {
      for (const value of typeof values === 'string' ? [values] : values)
        url.searchParams.append(name, value);
    }
    const identity: Record<string, string> =
      call.userToken === undefined
        ? { 'X-Auth-Token': token }
        : { 'X-Auth-Token': call.userToken, 'X-Service-Token': token };
    return {
      method: call.method,
      url,
      headers: { Accept: 'application/json', 'User-Agent': 'prebake', ...call.headers, ...identity },
      timeoutMs: call.timeoutMs ?? this.timeoutMs,
      signal: call.signal,
      ...(call.body === undefined ? {} : { body: call.body }),
      ...(call.file === undefined ? {} : { file: call.file }),
      ...(call.bytes === undefined ? {} : { bytes: call.bytes }),
      ...(call.repeatable === undefined ? {} : { repeatable: call.repeatable }),
    };
  }

  private async authenticated(): Promise<Grant> {
    const { grant } = this;
    const nowMs = Date.now();
    if (grant === undefined || grant.expiresAtMs - RENEWAL_MARGIN_MS <= nowMs) return this.renewed();
    if (grant.renewAtMs <= nowMs) {
      this.renewed().catch((error: unknown) =>
        this.logger.debug(`a token is not renewed yet: ${describeError(error)}`),
      );
    }
    return grant;
  }

  private renewed(): Promise<Grant> {
    this.pending ??= this.authenticate().finally(() => {
      this.pending = undefined;
    });
    return this.pending;
  }

  private async authenticate(): Promise<Grant> {
    const url = new URL(`${withoutVersion(this.auth.authUrl)}/v3/auth/tokens`);
    const request: HttpRequest = {
      method: 'POST',
      url,
      headers: { Accept: 'application/json', 'User-Agent': 'prebake' },
      body: credentials(this.auth),
      timeoutMs: this.timeoutMs,
      repeatable: true,
    };
    const answer = await this.transport.send(request);
    if (answer.status !== 201) throw httpError(request, answer.status, answer.body);
    const token = answer.headers['x-subject-token'];
    const parsed = TokenAnswer.safeParse(answer.body);
    if (token === undefined)
      throw new UnexpectedAnswer('POST', publicUrl(url), 'there is no X-Subject-Token');
    if (!parsed.success) throw new UnexpectedAnswer('POST', publicUrl(url), z.prettifyError(parsed.error));
    const { catalog: catalogue, expires_at: expiresAt } = parsed.data.token;
    const expiresAtMs = Date.parse(expiresAt);
    const aheadMs = Math.min(RENEWAL_AHEAD_MS, (expiresAtMs - Date.now()) / RENEWAL_AHEAD_PART);
    this.grant = { token, expiresAtMs, renewAtMs: expiresAtMs - aheadMs, catalogue };
    return this.grant;
  }
}

/** An identifier from outside as one segment of a path. */
export function pathSegment(value: string): string {
  if (value === '' || value === '.' || value === '..')
    throw new RangeError(`${JSON.stringify(value)} names no resource`);
  return encodeURIComponent(value);
}

function withoutVersion(url: string): string {
  return url.replace(/\/+$/, '').replace(/\/v\d+(\.\d+)?$/, '');
}

function credentials(auth: AuthOptions): unknown {
  const domain = (id: string | undefined, name: string | undefined): unknown =>
    id !== undefined ? { id } : { name: name ?? 'Default' };
  const user =
    auth.userId !== undefined
      ? { id: auth.userId, password: auth.password }
      : {
          name: auth.username,
          domain: domain(auth.userDomainId, auth.userDomainName),
          password: auth.password,
        };
  const project =
    auth.projectId !== undefined
      ? { id: auth.projectId }
      : { name: auth.projectName, domain: domain(auth.projectDomainId, auth.projectDomainName) };
  return { auth: { identity: { methods: ['password'], password: { user } }, scope: { project } } };
}
