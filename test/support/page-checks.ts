/** What Lighthouse would ask of a page, asked of the page in a test's browser. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { Browser } from './browser';

/** Of WCAG 2.2 up to AA, and what axe's makers advise beside it. */
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const findingsSchema = z.array(z.string());

/** What axe finds against the page as it is shown now; text whose contrast it cannot tell is found, too. */
export async function accessibilityFindings(browser: Browser): Promise<string[]> {
  await browser.evaluate(`${await readFile(require.resolve('axe-core/axe.min.js'), 'utf8')}; true`);
  const found =
    await browser.evaluate(`axe.run(document, { runOnly: ${JSON.stringify(RULES)} }).then((result) => {
    const unsure = result.incomplete.filter(({ id }) => id === 'color-contrast');
    const checked = result.passes.some(({ id }) => id === 'color-contrast');
    return [
      ...(checked ? [] : ['no contrast was looked at']),
      ...[...result.violations, ...unsure].flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => id + ': ' + html + ' ' + failureSummary)),
    ];
  })`);
  return findingsSchema.parse(found);
}

/** Whatever can be operated, as it is named to who does not see it, in the order of the page. */
const CONTROLS = `[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')]
  .filter((one) => one.checkVisibility())`;
const NAME = `((one) => one.tagName.toLowerCase() + ' ' + (one.getAttribute('aria-label') ?? one.labels?.[0]?.innerText ?? one.innerText).trim().split('\\n')[0])`;

/** Goes through the page by the Tab key. What is focused without an outline to be seen is said to be `unseen`. */
export async function tabStops(browser: Browser): Promise<{ stops: string[]; controls: string[] }> {
  const controls = findingsSchema.parse(await browser.evaluate(`${CONTROLS}.map(${NAME})`));
  // The next Tab goes on from where this was.
  await browser.evaluate(`(() => {
    const top = document.createElement('span');
    top.tabIndex = -1;
    document.body.prepend(top);
    top.focus();
    top.remove();
  })()`);
  const stops: string[] = [];
  while (stops.length <= controls.length) {
    await browser.press('Tab', 9);
    const stop = await browser.evaluate(`(() => {
      const one = document.activeElement;
      if (one === null || one === document.body) return null;
      const { outlineStyle, outlineWidth } = getComputedStyle(one);
      return (outlineStyle === 'none' || parseFloat(outlineWidth) < 1 ? 'unseen: ' : '') + ${NAME}(one);
    })()`);
    if (stop === null) break;
    stops.push(z.string().parse(stop));
  }
  return { stops, controls };
}

/** Milliseconds from asking for a page to the first of it on the screen. */
export async function firstPaintMs(browser: Browser, url: string): Promise<number> {
  await browser.open('about:blank');
  await browser.open(url);
  const paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
  await browser.until(`location.href === ${JSON.stringify(url)} && ${paint} !== undefined`);
  return z.number().parse(await browser.evaluate(paint));
}
