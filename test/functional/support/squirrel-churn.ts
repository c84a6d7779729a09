/** Adds and removes made-up µVMs until it is killed; writes down each operation before it begins and once it is done. */
import { appendFileSync } from 'node:fs';
import pino from 'pino';
import { Squirrel } from '../../../lib/squirrel';
import { keyOf, makeDraft, page, UNLIMITED } from '../../support/squirrel';

const [cache = '', scratch = '', log = '', ...names] = process.argv.slice(2);

async function churn(): Promise<never> {
  const squirrel = await Squirrel.open({
    directory: cache,
    imagesDirectory: scratch,
    limits: UNLIMITED,
    logger: pino({ level: 'silent' }),
  });
  for (let turn = process.pid; ; turn += 1) {
    const name = names[turn % names.length] ?? '';
    const op = turn % 4 === 0 ? 'remove' : 'add';
    const ram = Array.from({ length: 300 }, (_, index) => page(`${turn} ${index}`, index % 2 === 0));
    const shared = Array.from({ length: 100 }, (_, index) => page(`shared ${index}`, false));
    const draft = await makeDraft(scratch, name, [...shared, ...ram]);
    appendFileSync(log, `begin ${op} ${name}\n`);
    if (op === 'add') await squirrel.add(draft);
    else await squirrel.remove(keyOf(name));
    if (turn % 2 === 0) await squirrel.gc();
    appendFileSync(log, `done ${op} ${name}\n`);
  }
}

churn().catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
