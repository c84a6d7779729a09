/** The page's data and who may see it; how it looks is for a browser to tell. */
import type { Sidecar } from '../../lib/sidecar';
import { criticalPath } from '../../lib/sidecar/critical-path';
import { overview } from '../../lib/sidecar/overview';
import {
  GONE_IMAGE,
  PAGE_BUDGET,
  PAGE_IMAGE,
  PAGE_SERVER,
  PAGE_USAGE,
  pageWorld,
  serveDemoPage,
} from '../support/page-demo';

const TOKEN = 'a-token-of-the-test';

test('the critical path goes back from the end, through the innermost phases', () => {
  const span = (name: string, startMs: number, endMs: number) => ({ name, startMs, endMs });
  const spans = [
    span('network', 0, 500),
    span('restore', 0, 900),
    span('hotplug', 900, 1000),
    span('vifs', 1000, 3000),
    span('vif-plugged', 1100, 3000),
    span('late', 3000, 9000),
  ];
  expect(criticalPath(spans, 3000).map((index) => spans[index]?.name)).toEqual([
    'restore',
    'hotplug',
    'vif-plugged',
  ]);
  expect(criticalPath([], 100)).toEqual([]);
});

test('the overview has boots with a scale, µVMs, bakes, and faults in words, newest first', () => {
  const { boots, bakes, cache } = pageWorld();
  const seen = overview(
    { host: 'compute-1', boots, bakes, writable: false },
    { entries: cache, budget: PAGE_BUDGET },
  );
  expect(seen.boots[0]).toMatchObject({
    instanceUuid: PAGE_SERVER,
    endMs: 2051,
    coldBoot: { ms: 94_000, what: 'stock cold boot, as at its bake' },
  });
  expect(seen.boots.at(-1)).toMatchObject({ instanceUuid: 'cold-server', coldBoot: null });
  expect(seen.uvms.map(({ state }) => state)).toEqual(['ok', 'quarantined', 'unreadable']);
  expect(seen.bakes.current).toMatchObject([{ imageId: 'third-image', percent: 40 }]);
  expect(seen.bakes.recent.map(({ outcome }) => outcome)).toEqual(['failed', 'made']);
  expect(seen.faults.map(({ text }) => text.replace(/[0-9a-f]{12}/, 'K'))).toEqual([
    'µVM K cannot be read: the manifest is not JSON',
    expect.stringMatching(/^(Server failed-server failed|baking image other failed)/),
    expect.stringMatching(/^(Server failed-server failed|baking image other failed)/),
    'µVM K was put into quarantine: page 7 of ram differs',
  ]);
  expect(bakes.coldBootMs(PAGE_IMAGE)).toBe(94_000);
});

describe('over HTTP', () => {
  let sidecar: Sidecar | undefined;
  const stopped = new AbortController();
  afterEach(async () => {
    await sidecar?.close();
    sidecar = undefined;
  });
  const get = async (path: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${sidecar?.url ?? ''}${path}`, { headers, redirect: 'manual', signal: stopped.signal });

  test('the page, its files, and events as they come', async () => {
    sidecar = await serveDemoPage();
    for (const path of ['/', '/page.js', '/draw.js', '/page.css', '/icon.svg']) {
      const response = await get(path);
      expect([path, response.status]).toEqual([path, 200]);
      expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    }
    const events = await get('/events');
    expect(events.headers.get('content-type')).toBe('text/event-stream');
    const stream = events.body as ReadableStream<Uint8Array> | null;
    const reader = stream?.getReader();
    let text = '';
    while (!/\n\nevent: overview\ndata: \{.*\}\n\n/.test(text)) {
      text += new TextDecoder().decode((await reader?.read())?.value);
    }
    expect(text).toContain(PAGE_SERVER);
    await reader?.cancel();
  });

  test('with a token: nothing without it, a form for browsers, a cookie for the token', async () => {
    sidecar = await serveDemoPage(TOKEN);
    for (const path of ['/metrics', '/boots', '/overview', '/events', '/readyz']) {
      expect((await get(path)).status).toBe(401);
      expect((await get(path, { Authorization: 'Bearer wrong' })).status).toBe(401);
    }
    expect((await get('/healthz')).status).toBe(200);
    expect((await get('/boots', { Authorization: `Bearer ${TOKEN}` })).status).toBe(200);
    expect((await get('/', { Accept: 'text/html' })).headers.get('location')).toBe('/login');
    expect((await get('/login')).status).toBe(200);
    const login = (token: string): Promise<Response> =>
      fetch(`${sidecar?.url ?? ''}/login`, {
        method: 'POST',
        body: new URLSearchParams({ token }),
        redirect: 'manual',
      });
    const refused = await login('something else');
    expect([refused.headers.get('location'), refused.headers.get('set-cookie')]).toEqual([
      '/login?wrong',
      null,
    ]);
    const cookie = (await login(TOKEN)).headers.get('set-cookie') ?? '';
    expect(cookie).toMatch(/HttpOnly; SameSite=Strict/);
    expect(cookie).not.toContain(TOKEN);
    expect((await get('/boots', { Cookie: cookie.split(';')[0] ?? '' })).status).toBe(200);
  });

  const change = async (
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = { Authorization: `Bearer ${TOKEN}` },
  ): Promise<{ status: number; text: string }> => {
    const response = await fetch(`${sidecar?.url ?? ''}${path}`, {
      method,
      headers: { ...headers, 'Content-Type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, text: await response.text() };
  };
  const KEY = 'ab12'.repeat(16);

  test('who has the token bakes and evicts', async () => {
    const asked: string[] = [];
    sidecar = await serveDemoPage(TOKEN, asked);
    expect((await change('POST', '/bakes', { imageId: PAGE_IMAGE })).status).toBe(202);
    expect((await change('DELETE', `/uvms/${KEY}`)).status).toBe(204);
    expect(asked).toEqual([`bake ${PAGE_IMAGE}`, `evict ${KEY}`]);
  });

  test('a change that cannot be made is refused, with the reason', async () => {
    const asked: string[] = [];
    sidecar = await serveDemoPage(TOKEN, asked);
    expect(await change('POST', '/bakes', { imageId: GONE_IMAGE })).toEqual({
      status: 409,
      text: expect.stringContaining('is not in Glance') as string,
    });
    for (const body of [{}, { imageId: '../../etc' }, { imageId: PAGE_IMAGE, more: 1 }]) {
      expect((await change('POST', '/bakes', body)).status).toBe(400);
    }
    for (const key of ['..%2f..%2fetc', 'ab', '99'.repeat(32)]) {
      expect((await change('DELETE', `/uvms/${key}`)).status).toBe(404);
    }
    expect((await change('POST', '/bakes', { imageId: PAGE_IMAGE }, {})).status).toBe(401);
    expect(asked).toEqual([]);
  });

  test('without a token nobody changes anything, and the bytes of a µVM are told', async () => {
    const asked: string[] = [];
    sidecar = await serveDemoPage(null, asked);
    for (const refused of [
      await change('POST', '/bakes', { imageId: PAGE_IMAGE }),
      await change('DELETE', `/uvms/${KEY}`),
    ]) {
      expect(refused).toEqual({ status: 403, text: expect.stringContaining('sidecar_token') as string });
    }
    expect(asked).toEqual([]);
    expect(await (await get(`/uvms/${KEY}/usage`)).json()).toEqual(PAGE_USAGE);
    expect((await get(`/uvms/${'99'.repeat(32)}/usage`)).status).toBe(404);
  });
});
