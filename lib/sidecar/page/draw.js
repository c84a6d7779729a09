/** Draws parts of the page from the overview's parts. Text goes in as text, never as markup. */

/** An element with attributes and children; `style` is set property by property, as the page's policy wants it. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'style') for (const [property, text] of Object.entries(value)) made.style[property] = text;
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 99_950) return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`;
}

export function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

export function age(iso, nowMs = Date.now()) {
  const minutes = Math.max(0, (nowMs - Date.parse(iso)) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 90) return `${Math.round(minutes)} min ago`;
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} h ago`;
  return `${Math.round(minutes / 60 / 24)} days ago`;
}

function when(iso) {
  return element('time', { datetime: iso, class: 'time quiet' }, new Date(iso).toLocaleTimeString());
}

function track(fromMs, toMs, endMs) {
  const percent = (ms) => `${Math.min(100, (100 * ms) / Math.max(endMs, 1))}%`;
  const bar = element('i', { style: { left: percent(fromMs), width: percent(toMs - fromMs) } });
  return element('td', { 'aria-hidden': 'true' }, element('span', { class: 'track' }, bar));
}

function row(name, ms, fromMs, toMs, endMs, kind) {
  const dot = kind === 'critical' ? element('span', { class: 'quiet' }, ' ·') : null;
  const head = element('th', { scope: 'row', title: kind === 'critical' ? 'waited for' : null }, name, dot);
  const exact = `${fromMs.toFixed(3)} to ${toMs.toFixed(3)} ms`;
  return element(
    'tr',
    { class: kind },
    head,
    element('td', { class: 'ms', title: exact }, duration(ms)),
    track(fromMs, toMs, endMs),
  );
}

function waterfall(boot) {
  const endMs = Math.max(
    boot.endMs,
    ...boot.spans.map((span) => span.endMs),
    ...boot.marks.map((mark) => mark.atMs),
  );
  const critical = new Set(boot.critical);
  const rows = boot.spans.map((span, index) =>
    row(
      span.name,
      span.endMs - span.startMs,
      span.startMs,
      span.endMs,
      endMs,
      critical.has(index) ? 'critical' : null,
    ),
  );
  const marks = boot.marks
    .filter((mark) => mark.name !== 'rpc_received')
    .map((mark) => row(`= ${mark.name}`, mark.atMs, mark.atMs, mark.atMs, endMs, 'mark'));
  const caption = element('caption', {}, 'Where the time went; phases marked · were waited for');
  return element('table', { class: 'waterfall' }, caption, element('tbody', {}, ...rows, ...marks));
}

function scale(boot) {
  if (boot.coldBoot === null || boot.how !== 'uvm') return null;
  const { ms, what } = boot.coldBoot;
  const endMs = Math.max(ms, boot.endMs);
  const caption = element('caption', {}, `For scale (${what})`);
  return element(
    'table',
    { class: 'waterfall scale' },
    caption,
    element(
      'tbody',
      {},
      row('this boot', boot.endMs, 0, boot.endMs, endMs, 'critical'),
      row('cold', ms, 0, ms, endMs, null),
    ),
  );
}

const HOW = { uvm: 'from µVM', cold: 'cold' };
const OUTCOME = { building: 'warn', active: 'good', ready: 'good', failed: 'bad' };

export function boot(view, open) {
  const mark = (name) => view.marks.find((one) => one.name === name);
  const reached = ['active', 'ready'].flatMap((name) => {
    const found = mark(name);
    return found === undefined ? [] : [element('span', {}, `${name} after ${duration(found.atMs)}`)];
  });
  const summary = element(
    'summary',
    {},
    element('span', { class: 'id' }, view.instanceUuid),
    element('span', {}, HOW[view.how] ?? (view.outcome === 'failed' ? 'not started' : 'starting')),
    element('span', { class: OUTCOME[view.outcome] ?? 'quiet' }, view.outcome),
    ...reached,
    when(view.startedAt),
  );
  return element(
    'details',
    { open },
    summary,
    element('p', { class: 'quiet' }, 'Image ', element('span', { class: 'id' }, view.imageId)),
    view.traceId === null
      ? null
      : element('p', { class: 'quiet' }, 'Trace ', element('span', { class: 'id' }, view.traceId)),
    view.why === null ? null : element('p', { class: 'warn' }, `Cold because ${view.why}.`),
    view.error === null ? null : element('p', { class: 'bad' }, view.error),
    scale(view),
    waterfall(view),
  );
}

const PHASES = ['boot', 'seal', 'capture', 'prove', 'store'];
const DOING = {
  queue: 'waiting for another bake',
  boot: 'booting the image',
  seal: 'taking its identity out',
  capture: 'capturing memory and devices',
  store: 'storing pages',
  prove: 'proving it with a clone',
};

export function bakeUnderWay({ imageId, phase, percent, elapsedMs }) {
  const step = PHASES.indexOf(phase) + 1;
  const done = Math.max(0, step - 1 + (percent ?? 0) / 100);
  const words = `${DOING[phase] ?? phase}${percent === undefined ? '' : ` ${Math.round(percent)} %`}`;
  return element(
    'div',
    { class: 'card' },
    element('p', {}, 'Image ', element('span', { class: 'id' }, imageId)),
    element('progress', { max: PHASES.length, value: done, 'aria-label': `bake of image ${imageId}` }),
    element('p', { class: 'quiet' }, `${words}, ${duration(elapsedMs)} after it was asked for`),
  );
}

export function endedBake({ imageId, outcome, durationMs, endedAt }) {
  return element(
    'p',
    { class: 'card' },
    element('span', { class: outcome === 'made' ? 'good' : 'bad' }, outcome),
    ` in ${duration(durationMs)}, ${age(endedAt)}: `,
    element('span', { class: 'id' }, imageId),
  );
}

/** How much of the host's disk the cache takes, of what it may. */
export function budget({ storedBytes, materialisedBytes, materialisedLimitBytes, freeBytes, reserveBytes }) {
  return element(
    'div',
    { class: 'card' },
    element(
      'p',
      {},
      `Store: ${bytes(storedBytes)}. `,
      element('span', { class: 'quiet' }, 'Compressed, of all µVMs.'),
    ),
    element(
      'p',
      {},
      `Written out: ${bytes(materialisedBytes)} of at most ${bytes(materialisedLimitBytes)}. `,
      element('meter', {
        max: materialisedLimitBytes,
        value: materialisedBytes,
        'aria-label': 'written-out µVMs, of their budget',
      }),
    ),
    element(
      'p',
      {},
      `Free on the disk: ${bytes(freeBytes)}, of which ${bytes(reserveBytes)} stay the host's.`,
    ),
  );
}

const PARTS = [
  ['zeroBytes', 'zero, stored nowhere'],
  ['imageBytes', "the image's own blocks"],
  ['sharedBytes', 'shared with other µVMs'],
  ['ownBytes', 'its own'],
];

/** Where the bytes of a µVM's files are, as a bar of parts and in words. */
export function usageBar(usage) {
  const files = Object.values(usage);
  const sums = PARTS.map(([part]) => files.reduce((sum, file) => sum + file[part], 0));
  const total = Math.max(1, ...[sums.reduce((sum, one) => sum + one, 0)]);
  const stored = files.reduce((sum, file) => sum + file.ownStoredBytes, 0);
  const bar = element(
    'span',
    { class: 'parts', 'aria-hidden': 'true' },
    ...sums.map((sum, index) =>
      element('i', { class: PARTS[index][0], style: { width: `${(100 * sum) / total}%` } }),
    ),
  );
  const words = PARTS.map(([part, what], index) =>
    element('li', {}, element('i', { class: `swatch ${part}` }), ` ${bytes(sums[index])} ${what}`),
  );
  return element(
    'div',
    { class: 'usage' },
    bar,
    element('ul', {}, ...words),
    element('p', { class: 'quiet' }, `Evicting it frees ${bytes(stored)} of the store.`),
  );
}

/**
 * µVMs as a table. `usages` are those to be shown, by key, each in a row below its µVM; `on.usage(key)`, `on.hide(key)` and
 * `on.evict(key)` are called for the buttons, the last only where the viewer may.
 */
export function uvmTable(uvms, { writable, usages, on }) {
  const heads = [
    'µVM',
    'State',
    'Image',
    'Memory',
    'Added',
    'Baked',
    'Bytes',
    ...(writable ? ['Change'] : []),
  ];
  const button = (id, text, attributes, press) => {
    const made = element('button', { type: 'button', id, ...attributes }, text);
    made.addEventListener('click', () => press(made));
    return made;
  };
  const rows = (uvm) => {
    const name = uvm.key.slice(0, 12);
    const usage = usages.get(uvm.key);
    const where = (text, press) =>
      button(
        `usage-${uvm.key}`,
        text,
        { 'aria-label': `${text} The bytes of µVM ${name}`, 'aria-expanded': String(usage !== undefined) },
        () => press(uvm.key),
      );
    const bytesCell =
      uvm.state === 'unreadable'
        ? '-'
        : usage === undefined
          ? where('Where?', on.usage)
          : where('Hide', on.hide);
    const evict = button(`evict-${uvm.key}`, 'Evict', { 'aria-label': `Evict µVM ${name}` }, (made) => {
      if (made.dataset.sure === undefined) {
        made.dataset.sure = '';
        made.textContent = 'Really evict?';
        made.setAttribute('aria-label', `Really evict? µVM ${name}`);
      } else on.evict(uvm.key);
    });
    const cells = [
      element('span', { class: 'id' }, name),
      element(
        'span',
        { class: uvm.state === 'ok' ? 'good' : 'bad' },
        uvm.reason === null ? uvm.state : `${uvm.state}: ${uvm.reason}`,
      ),
      element('span', { class: 'id' }, uvm.imageId ?? '-'),
      uvm.memoryMb === null ? '-' : `${uvm.memoryMb} MiB`,
      uvm.storedBytes === null ? '-' : bytes(uvm.storedBytes),
      uvm.bakedAt === null ? '-' : age(uvm.bakedAt),
      bytesCell,
      ...(writable ? [evict] : []),
    ];
    const row = element(
      'tr',
      {},
      ...cells.map((cell, index) => element('td', { 'data-label': heads[index] }, cell)),
    );
    if (usage === undefined) return [row];
    return [
      row,
      element('tr', { class: 'below' }, element('td', { colspan: heads.length }, usageBar(usage))),
    ];
  };
  return element(
    'table',
    { class: 'list card' },
    element('thead', {}, element('tr', {}, ...heads.map((head) => element('th', { scope: 'col' }, head)))),
    element('tbody', {}, ...uvms.flatMap(rows)),
  );
}

export function fault({ at, text }) {
  return element(
    'p',
    { class: 'card' },
    at === null ? null : element('span', { class: 'quiet' }, `${age(at)}: `),
    text,
  );
}
