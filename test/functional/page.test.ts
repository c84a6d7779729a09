/**
 * The sidecar's page in a real browser: what it shows, live; light and dark, wide and narrow; and what Lighthouse would ask:
 * no complaints in the console, all to be done by keyboard, contrast and names for everything, quickly there.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Sidecar } from '../../lib/sidecar';
import { Browser } from '../support/browser';
import { accessibilityFindings, firstPaintMs, tabStops } from '../support/page-checks';
import { PAGE_IMAGE, PAGE_SERVER, serveDemoPage } from '../support/page-demo';

/** Kept for whoever wants to look at them. */
const SCREENSHOTS = 'dist/screenshots';
const LIVE =
  "document.getElementById('connection')?.textContent === 'Live' && document.querySelector('details') !== null";
const TOKEN = 'a-token-of-the-test';

let browser: Browser;
let sidecar: Sidecar;
beforeAll(async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
});
beforeEach(async () => {
  browser = await Browser.launch();
});
afterEach(async () => {
  await browser.close();
  await sidecar.close();
});

/** Looks at the page as it is, and keeps a picture. */
async function inspect(name: string, width: number): Promise<void> {
  await writeFile(join(SCREENSHOTS, `${name}.png`), await browser.screenshot());
  expect(await accessibilityFindings(browser)).toEqual([]);
  const { stops, controls } = await tabStops(browser);
  expect(stops).toEqual(controls);
  // A phone would zoom out to show what is wider.
  expect(await browser.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
}

/** Gives the token in the form. */
async function submit(token: string): Promise<void> {
  await browser.until("document.querySelector('form') !== null");
  await browser.evaluate(
    `document.getElementById('token').value = '${token}'; document.querySelector('form').submit()`,
  );
}

test.each([
  ['light', 1100],
  ['dark', 1100],
  ['light', 360],
  ['dark', 360],
] as const)('the page in %s, %i pixels wide', async (scheme, width) => {
  sidecar = await serveDemoPage(TOKEN);
  await browser.present(width, 900, scheme);
  await browser.open(`${sidecar.url}/`);
  await submit('something else');
  await browser.until("document.getElementById('wrong')?.checkVisibility() === true");
  await inspect(`login-${scheme}-${width}`, width);
  await submit(TOKEN);
  await browser.until(LIVE);
  await inspect(`page-${scheme}-${width}`, width);

  const text = await browser.evaluate('document.body.innerText');
  for (const words of [
    'prebake on compute-1',
    PAGE_SERVER,
    'ready after 2.05 s',
    'storing pages 40 %',
    'quarantined: page 7 of ram differs',
    'Server failed-server failed: no <b>bridge</b>',
    'Written out: 700.0 MiB of at most 20.0 GiB.',
  ]) {
    expect(text).toContain(words);
  }
  const critical =
    "[...document.querySelectorAll('details[open] .waterfall:not(.scale) tr.critical th')].map((e) => e.innerText)";
  expect(await browser.evaluate(critical)).toEqual([
    'template ·',
    'config_drive ·',
    'hotplug ·',
    'resources ·',
  ]);
  const scale = "[...document.querySelectorAll('.scale .track > i')].map((e) => e.offsetWidth)";
  const [boot = 0, cold = 0] = (await browser.evaluate(scale)) as number[];
  expect(cold).toBeGreaterThan(10 * boot);

  await browser.evaluate(
    "document.querySelectorAll('details').forEach((e) => (e.open = true)); document.querySelector('td button').click()",
  );
  await browser.until("document.querySelector('.usage') !== null");
  await inspect(`details-${scheme}-${width}`, width);
  expect(browser.complaints).toEqual([]);
  expect(browser.requested.filter((url) => !url.startsWith(sidecar.url))).toEqual([]);
});

test('the first of the page is there within a second', async () => {
  sidecar = await serveDemoPage();
  const paintsMs: number[] = [];
  for (let i = 0; i < 5; i += 1) paintsMs.push(await firstPaintMs(browser, `${sidecar.url}/`));
  const [, , medianMs] = paintsMs.sort((a, b) => a - b);
  expect(medianMs).toBeLessThan(1000);
});

test('boots open and close by keyboard', async () => {
  sidecar = await serveDemoPage();
  await browser.open(`${sidecar.url}/`);
  await browser.until(LIVE);
  const open = "[...document.querySelectorAll('details')].map((e) => e.open)";
  expect(await browser.evaluate(open)).toEqual([true, false, false]);
  await browser.press('Tab', 9);
  await browser.press('Enter', 13, '\r');
  await browser.press('Tab', 9);
  await browser.press('Enter', 13, '\r');
  expect(await browser.evaluate(open)).toEqual([false, true, false]);
});

test('a browser is asked for the token, once', async () => {
  sidecar = await serveDemoPage(TOKEN);
  await browser.open(`${sidecar.url}/`);
  await submit('something else');
  await browser.until("location.search === '?wrong' && document.querySelector('form') !== null");
  await submit(TOKEN);
  await browser.until(LIVE);
});

test('where bytes are, a bake and an eviction, all by keyboard', async () => {
  const asked: string[] = [];
  sidecar = await serveDemoPage(TOKEN, asked);
  await browser.open(`${sidecar.url}/`);
  await submit(TOKEN);
  await browser.until(LIVE);
  const focus = (label: string): string =>
    `document.querySelector('button[aria-label="${label}"]')?.focus() ?? true`;
  const press = async (label: string): Promise<void> => {
    await browser.evaluate(focus(label));
    await browser.press('Enter', 13, '\r');
  };
  await press('Where? The bytes of µVM ab12ab12ab12');
  await browser.until("document.querySelector('.usage')?.innerText.includes('60.0 MiB the image') === true");
  // The button for it has the focus still, and takes it back.
  await browser.press('Enter', 13, '\r');
  await browser.until("document.querySelector('.usage') === null");
  await press('Evict µVM ab12ab12ab12');
  expect(asked).toEqual([]);
  await press('Really evict? µVM ab12ab12ab12');
  await browser.until("document.getElementById('answer').innerText.includes('is evicted')");
  await browser.evaluate(
    `document.getElementById('bake-image').value = '${PAGE_IMAGE}'; document.getElementById('bake-image').focus()`,
  );
  await browser.press('Enter', 13, '\r');
  await browser.until("document.getElementById('answer').innerText.includes('is queued')");
  expect(asked).toEqual([`evict ${'ab12'.repeat(16)}`, `bake ${PAGE_IMAGE}`]);
  expect(browser.complaints).toEqual([]);
});
