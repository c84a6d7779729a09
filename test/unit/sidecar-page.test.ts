/** The page's data and who may see it; how it looks is for a browser to tell. */
import type { Sidecar } from '../../lib/sidecar';
import { criticalPath } from '../../lib/sidecar/critical-path';
import { overview } from '../../lib/sidecar/overview';
import { PAGE_IMAGE, PAGE_SERVER, pageWorld, serveDemoPage } from '../support/page-demo';

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
  const seen = overview({ host: 'compute-1', boots, bakes }, cache);
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
});
