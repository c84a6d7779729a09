/** The sidecar's page in a real browser: what it shows, live; light and dark, wide and narrow; keyboard and contrast. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Sidecar } from '../../lib/sidecar';
import { Browser } from '../support/browser';
import { PAGE_IMAGE, PAGE_SERVER, serveDemoPage } from '../support/page-demo';

/** Kept for whoever wants to look at them. */
const SCREENSHOTS = 'dist/screenshots';
const LIVE =
  "document.getElementById('connection')?.textContent === 'Live' && document.querySelector('details') !== null";
const TOKEN = 'a-token-of-the-test';

/** WCAG's contrast of each piece of text against the nearest background; the lowest one. */
const LOWEST_CONTRAST = `(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = parse(color).slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((parse(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = [...document.querySelectorAll('body *')].filter((e) => e.offsetParent !== null && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim() !== ''));
  return Math.min(...texts.map((e) => {
    const [light, dark] = [luminance(getComputedStyle(e).color), luminance(behind(e))].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  }));
})()`;

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

test.each([
  ['light', 1100],
  ['dark', 1100],
  ['light', 360],
  ['dark', 360],
] as const)('the page in %s, %i pixels wide', async (scheme, width) => {
  sidecar = await serveDemoPage();
  await browser.present(width, 900, scheme);
  await browser.open(`${sidecar.url}/`);
  await browser.until(LIVE);
  await writeFile(join(SCREENSHOTS, `page-${scheme}-${width}.png`), await browser.screenshot());

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

  expect(await browser.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true);
  expect(await browser.evaluate(LOWEST_CONTRAST)).toBeGreaterThanOrEqual(4.5);
  expect(browser.complaints).toEqual([]);
  expect(browser.requested.filter((url) => !url.startsWith(sidecar.url))).toEqual([]);
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
  await browser.until("document.querySelector('form') !== null");
  const submit = (token: string): Promise<unknown> =>
    browser.evaluate(
      `document.getElementById('token').value = '${token}'; document.querySelector('form').submit()`,
    );
  await submit('something else');
  await browser.until("location.search === '?wrong' && document.querySelector('form') !== null");
  await submit(TOKEN);
  await browser.until(LIVE);
});

test('where bytes are, a bake and an eviction, all by keyboard', async () => {
  const asked: string[] = [];
  sidecar = await serveDemoPage(TOKEN, asked);
  await browser.open(`${sidecar.url}/`);
  await browser.until("document.querySelector('form') !== null");
  await browser.evaluate(
    `document.getElementById('token').value = '${TOKEN}'; document.querySelector('form').submit()`,
  );
  await browser.until(LIVE);
  const focus = (label: string): string =>
    `document.querySelector('button[aria-label="${label}"]')?.focus() ?? true`;
  const press = async (label: string): Promise<void> => {
    await browser.evaluate(focus(label));
    await browser.press('Enter', 13, '\r');
  };
  await press('where the bytes of µVM ab12ab12ab12 are');
  await browser.until("document.querySelector('.usage')?.innerText.includes('60.0 MiB the image') === true");
  await writeFile(join(SCREENSHOTS, 'page-usage.png'), await browser.screenshot());
  await press('evict µVM ab12ab12ab12');
  expect(asked).toEqual([]);
  await press('evict µVM ab12ab12ab12');
  await browser.until("document.getElementById('answer').innerText.includes('is evicted')");
  await browser.evaluate(
    `document.getElementById('bake-image').value = '${PAGE_IMAGE}'; document.getElementById('bake-image').focus()`,
  );
  await browser.press('Enter', 13, '\r');
  await browser.until("document.getElementById('answer').innerText.includes('is queued')");
  expect(asked).toEqual([`evict ${'ab12'.repeat(16)}`, `bake ${PAGE_IMAGE}`]);
  expect(browser.complaints).toEqual([]);
});
