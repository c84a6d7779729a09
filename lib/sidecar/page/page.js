/** Keeps the page as the service is: listens to its events and redraws what has changed. */
import { bakeUnderWay, boot, budget, element, endedBake, fault, uvmTable } from './draw.js';

const place = (id) => document.getElementById(id);
const drawn = new Map();
const boots = new Map();
/** Where the bytes of µVMs are, of those that it is shown of. */
const usages = new Map();
let latest;

/** Redraws a part only when it has changed, so that reading and keyboard focus are not disturbed. */
function redraw(id, data, draw) {
  const text = JSON.stringify(data);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  const focused = place(id).contains(document.activeElement) ? document.activeElement.id : '';
  place(id).replaceChildren(...draw(data));
  if (focused !== '') place(focused)?.focus();
}

function nothing(text) {
  return element('p', { class: 'quiet' }, text);
}

/** Boots keep whether they are open; the newest begins open. */
function drawBoots(views) {
  const container = place('boots');
  const wanted = views.map((view, index) => {
    const id = `${view.instanceUuid} ${view.startedAt}`;
    const text = JSON.stringify(view);
    const known = boots.get(id);
    if (known?.text === text) return known.made;
    const focused = known?.made.contains(document.activeElement) === true;
    const made = boot(view, known?.made.open ?? (index === 0 && boots.size === 0));
    boots.set(id, { text, made });
    if (focused) {
      known.made.replaceWith(made);
      made.querySelector('summary').focus();
    }
    return made;
  });
  if (wanted.length === 0) wanted.push(nothing('No server was booted since the service started.'));
  const same =
    wanted.length === container.children.length && wanted.every((made, i) => made === container.children[i]);
  if (!same) container.replaceChildren(...wanted);
}

function draw(overview) {
  document.title = `prebake on ${overview.host}`;
  place('host').textContent = `on ${overview.host}`;
  drawBoots(overview.boots);
  redraw('bakes', overview.bakes, ({ current, recent }) =>
    current.length + recent.length === 0
      ? [nothing('No bake since the service started.')]
      : [...current.map(bakeUnderWay), ...recent.map(endedBake)],
  );
  redraw('budget', overview.budget, (data) => [budget(data)]);
  drawUvms(overview);
  place('bake-form').hidden = !overview.writable;
  redraw('faults', overview.faults, (faults) =>
    faults.length === 0 ? [nothing('None.')] : faults.map(fault),
  );
}

function drawUvms({ uvms, writable }) {
  redraw('uvms', { uvms, writable, known: [...usages.keys()] }, () =>
    uvms.length === 0
      ? [nothing('None yet: prebake bake IMAGE makes one.')]
      : [uvmTable(uvms, { writable, usages, on: { usage: showUsage, hide: hideUsage, evict } })],
  );
}

/** Asks the service; what it says against it is shown, and nothing is returned. */
async function ask(path, options, thanks) {
  try {
    const response = await fetch(path, options);
    const answer = response.status === 204 ? {} : await response.json();
    place('answer').textContent = response.ok ? thanks : answer.error;
    return response.ok ? answer : undefined;
  } catch (error) {
    place('answer').textContent = `The service did not answer: ${error.message}`;
    return undefined;
  }
}

async function showUsage(key) {
  const usage = await ask(`uvms/${key}/usage`, {}, '');
  if (usage === undefined) return;
  usages.set(key, usage);
  drawUvms(latest);
}

function hideUsage(key) {
  usages.delete(key);
  drawUvms(latest);
}

async function evict(key) {
  await ask(`uvms/${key}`, { method: 'DELETE' }, `µVM ${key.slice(0, 12)} is evicted.`);
}

place('bake-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const imageId = place('bake-image').value.trim();
  const headers = { 'Content-Type': 'application/json' };
  const body = JSON.stringify({ imageId });
  void ask('bakes', { method: 'POST', headers, body }, `The bake of ${imageId} is queued.`);
});

function connection(text, lost) {
  const line = place('connection');
  if (line.textContent !== text) line.textContent = text;
  line.classList.toggle('lost', lost);
}

const events = new EventSource('events');
events.addEventListener('overview', (event) => {
  connection('Live', false);
  latest = JSON.parse(event.data);
  draw(latest);
});
events.addEventListener('error', () => connection('The service does not answer; trying again…', true));
