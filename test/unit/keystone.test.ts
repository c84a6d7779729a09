/** Tokens, endpoints and HTTP manners of the OpenStack clients. */
import { inspect } from 'node:util';
import pino from 'pino';
import {
  EndpointNotFound,
  KeystoneSession,
  RequestTimeout,
  ServiceUnreachable,
  UnexpectedAnswer,
  type AuthOptions,
} from '../../lib/openstack';
import { pathSegment } from '../../lib/openstack/keystone';
import { LocalCloud, type Answer, type Seen } from '../support/local-cloud';
import { recordedStartup } from '../support/recorded';

const logger = pino({ level: 'silent' });
let cloud: LocalCloud;
let session: KeystoneSession;

async function start(
  route: (request: Seen) => Answer | undefined,
  options: Partial<AuthOptions> = {},
): Promise<void> {
  cloud = await LocalCloud.start(route);
  session = new KeystoneSession(
    {
      authUrl: cloud.url,
      username: 'placement',
      password: 'secret',
      projectName: 'service',
      userDomainName: 'Default',
      projectDomainName: 'Default',
      ...options,
    },
    logger,
  );
}

afterEach(async () => {
  session.close();
  await cloud.stop();
});

const get = { method: 'GET', path: '/thing' } as const;
const ok: Answer = { status: 200, body: { well: true } };

test('authenticates as keystoneauth does, once for all who wait', async () => {
  await start(() => undefined);
  const tokens = await Promise.all([session.token(), session.token(), session.token()]);
  expect(tokens).toEqual(['token-1', 'token-1', 'token-1']);
  expect(cloud.seen.map(({ body }) => body)).toEqual([recordedStartup.authentication]);
});

test('renews a token before it runs out', async () => {
  await start(() => undefined);
  cloud.tokenLifeS = 60;
  await session.token();
  cloud.tokenLifeS = 3600;
  await expect(session.token()).resolves.toBe('token-2');
  await expect(session.token()).resolves.toBe('token-2');
});

test('renews a token ahead of need, while the old one is still used', async () => {
  await start(() => undefined);
  cloud.tokenLifeS = 3600;
  await session.token();
  const renewAtMs = Date.now() + 3600_000 - 15 * 60_000;
  const clock = jest.spyOn(Date, 'now').mockReturnValue(renewAtMs + 1000);
  try {
    await expect(session.token()).resolves.toBe('token-1');
    while ((await session.token()) === 'token-1') await new Promise((resolve) => setImmediate(resolve));
    await expect(session.token()).resolves.toBe('token-2');
  } finally {
    clock.mockRestore();
  }
  expect(cloud.seen).toHaveLength(2);
});

test('authenticates again when a token is refused, and only once', async () => {
  let accepted = 'token-2';
  await start(({ path, headers }) =>
    path === '/thing' ? (headers['x-auth-token'] === accepted ? ok : { status: 401 }) : undefined,
  );
  await expect(session.send('placement', {}, get)).resolves.toMatchObject({ body: { well: true } });
  expect(cloud.tokens).toBe(2);
  accepted = 'none';
  await expect(session.send('placement', {}, get)).rejects.toMatchObject({ status: 401 });
  expect(cloud.tokens).toBe(3);
});

test('finds the endpoint by interface, region and override, without its version', async () => {
  await start(() => undefined);
  await expect(session.endpoint('compute')).resolves.toBe(`${cloud.url}/two`);
  await expect(session.endpoint('compute', { validInterfaces: ['public'] })).resolves.toBe(
    `${cloud.url}/one`,
  );
  await expect(session.endpoint('compute', { regionName: 'RegionOne' })).resolves.toBe(`${cloud.url}/one`);
  await expect(session.endpoint('image')).resolves.toBe(cloud.url);
  await expect(session.endpoint('image', { endpointOverride: 'http://glance/v2' })).resolves.toBe(
    'http://glance',
  );
  await expect(session.endpoint('image', { validInterfaces: ['internal'] })).rejects.toThrow(
    EndpointNotFound,
  );
});

test("a user's token goes with the service's own", async () => {
  await start(({ path }) => (path === '/thing' ? ok : undefined));
  await session.send('placement', {}, { ...get, userToken: 'of-the-user' });
  expect(cloud.seen.at(-1)?.headers).toMatchObject({
    'x-auth-token': 'of-the-user',
    'x-service-token': 'token-1',
  });
});

test('repeats what may be repeated when the connection breaks, and nothing else', async () => {
  let broken = 2;
  await start(({ path }) => {
    if (path !== '/thing') return undefined;
    broken -= 1;
    return broken >= 0 ? (response) => response.destroy() : ok;
  });
  await expect(session.send('placement', {}, get)).resolves.toMatchObject({ status: 200 });
  expect(cloud.calls).toHaveLength(3);
  broken = 1;
  const post = session.send('placement', {}, { ...get, method: 'POST', body: {} });
  await expect(post).rejects.toBeInstanceOf(ServiceUnreachable);
  expect(cloud.calls).toHaveLength(4);
});

test('waits out a service that is overloaded for a moment', async () => {
  let busy = true;
  await start(({ path }) => {
    if (path !== '/thing') return undefined;
    const answer: Answer = busy ? { status: 503 } : ok;
    busy = false;
    return answer;
  });
  await expect(session.send('placement', {}, get)).resolves.toMatchObject({ status: 200 });
});

test('gives up on a service that is not there', async () => {
  await start(() => undefined);
  await session.token();
  const gone = { endpointOverride: 'http://127.0.0.1:1' };
  await expect(session.send('placement', gone, { ...get, method: 'POST', body: {} })).rejects.toMatchObject({
    name: 'ServiceUnreachable',
    code: 'ECONNREFUSED',
    sent: false,
  });
});

test('does not wait for ever, nor when nobody waits any more', async () => {
  await start(({ path }) => (path === '/thing' ? () => undefined : undefined));
  await expect(session.send('placement', {}, { ...get, timeoutMs: 50 })).rejects.toBeInstanceOf(
    RequestTimeout,
  );
  const abort = new AbortController();
  const reason = new Error('the server was deleted');
  const waiting = session.send('placement', {}, { ...get, signal: abort.signal });
  abort.abort(reason);
  await expect(waiting).rejects.toBe(reason);
});

test('says what the service said, and no secret', async () => {
  const errors: unknown[] = [];
  const bodies = [
    { NeutronError: { type: 'IpAddressInUse', message: 'Address taken.', detail: '' } },
    {
      errors: [
        {
          status: 409,
          title: 'Conflict',
          detail: 'Somebody\n was faster',
          code: 'placement.concurrent_update',
        },
      ],
    },
    { error: { code: 403, message: 'You are not allowed', title: 'Forbidden' } },
  ];
  await start(({ path, query }) => {
    if (path !== '/thing') return undefined;
    return { status: 409, body: bodies[Number(query.get('n'))] };
  });
  for (const n of ['0', '1', '2']) {
    const call = { ...get, query: { n }, userToken: 'of-the-user' };
    errors.push(await session.send('placement', {}, call).catch((error: unknown) => error));
  }
  errors.push(
    await session
      .send('placement', { endpointOverride: 'http://127.0.0.1:1' }, get)
      .catch((error: unknown) => error),
  );
  expect(errors).toMatchObject([
    { status: 409, errorType: 'IpAddressInUse', serviceMessage: 'Address taken.', url: `${cloud.url}/thing` },
    { errorType: 'placement.concurrent_update', serviceMessage: 'Somebody was faster' },
    { errorType: null, message: `GET ${cloud.url}/thing was answered with 409: You are not allowed` },
    { code: 'ECONNREFUSED' },
  ]);
  expect(inspect(errors, { depth: 10, showHidden: true })).not.toMatch(/token-1|of-the-user|secret|n=/);
});

test('does not take an answer that makes no sense', async () => {
  await start(({ path }) =>
    path === '/thing'
      ? (response) => {
          response.writeHead(200, { 'Content-Type': 'application/json' });
          response.end('{"half":');
        }
      : undefined,
  );
  await expect(session.send('placement', {}, get)).rejects.toBeInstanceOf(UnexpectedAnswer);
});

test('an identifier stays one segment of a path', () => {
  expect(pathSegment('a/../b?c#d')).toBe('a%2F..%2Fb%3Fc%23d');
  for (const nothing of ['', '.', '..']) expect(() => pathSegment(nothing)).toThrow(RangeError);
});
