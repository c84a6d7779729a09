/** Adds, removes and collects made-up µVMs until it is killed; notes each operation before it begins and once it is done. */
import { appendFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import pino from 'pino';
import { Squirrel } from '../../../lib/squirrel';
import { keyOf, makeDraft, page, UNLIMITED } from '../../support/squirrel';

const [cache = '', scratch = '', log = '', ...names] = process.argv.slice(2);

/** Pages that all µVMs have, pages that resemble those, and pages of its own. */
function memory(turn: number): Buffer[] {
  const shared = Array.from({ length: 100 }, (_, index) => page(`shared ${index}`, false));
  const changed = shared.map((one) => {
    const copy = Buffer.from(one);
    copy.write(`turn ${turn}`);
    return copy;
  });
  const own = Array.from({ length: 200 }, (_, index) => page(`${turn} ${index}`, index % 2 === 0));
  return [...shared, ...changed, ...own];
}

async function churn(): Promise<never> {
  const squirrel = await Squirrel.open({
    directory: cache,
    imagesDirectory: scratch,
    limits: UNLIMITED,
    logger: pino({ level: 'silent' }),
  });
  for (let turn = process.pid; ; turn += 1) {
    const name = names[turn % names.length] ?? '';
    const removes = turn % 4 === 0;
    const ram = memory(turn);
    const draft = await makeDraft(scratch, name, ram);
    const digest = removes ? '-' : createHash('sha256').update(Buffer.concat(ram)).digest('hex');
    appendFileSync(log, `begin ${name} ${digest}\n`);
    if (removes) await squirrel.remove(keyOf(name));
    else await squirrel.add(draft);
    appendFileSync(log, `done ${name} ${digest}\n`);
    if (turn % 2 === 0) await squirrel.gc();
  }
}

churn().catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
