/** Keeps the page as the service is: listens to its events and redraws what has changed. */
import { bakeUnderWay, boot, element, endedBake, fault, uvmTable } from './draw.js';

const place = (id) => document.getElementById(id);
const drawn = new Map();
const boots = new Map();

/** Redraws a part only when it has changed, so that reading and keyboard focus are not disturbed. */
function redraw(id, data, draw) {
  const text = JSON.stringify(data);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  place(id).replaceChildren(...draw(data));
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
  redraw('uvms', overview.uvms, (uvms) =>
    uvms.length === 0 ? [nothing('None yet: prebake bake IMAGE makes one.')] : [uvmTable(uvms)],
  );
  redraw('faults', overview.faults, (faults) =>
    faults.length === 0 ? [nothing('None.')] : faults.map(fault),
  );
}

function connection(text, lost) {
  const line = place('connection');
  if (line.textContent !== text) line.textContent = text;
  line.classList.toggle('lost', lost);
}

const events = new EventSource('events');
events.addEventListener('overview', (event) => {
  connection('Live', false);
  draw(JSON.parse(event.data));
});
events.addEventListener('error', () => connection('The service does not answer; trying again…', true));
