/** Stores two µVMs, removes the first and collects; says that a step is done by renaming a file, for whoever traces it. */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import { Squirrel } from '../../../lib/squirrel';
import { keyOf, makeDraft, page, UNLIMITED } from '../../support/squirrel';

const [cache = '', scratch = ''] = process.argv.slice(2);

function acknowledge(step: string): void {
  writeFileSync(join(scratch, 'acknowledging'), '');
  renameSync(join(scratch, 'acknowledging'), join(scratch, `acknowledged-${step}`));
}

async function act(): Promise<void> {
  const squirrel = await Squirrel.open({
    directory: cache,
    imagesDirectory: scratch,
    limits: UNLIMITED,
    logger: pino({ level: 'silent' }),
  });
  const shared = Array.from({ length: 60 }, (_, index) => page(`shared ${index}`, false));
  const alone = Array.from({ length: 100 }, (_, index) => page(`alone ${index}`, false));
  await squirrel.add(await makeDraft(scratch, 'a', [...shared, ...alone]));
  acknowledge('add-a');
  await squirrel.add(await makeDraft(scratch, 'b', [...shared, page('own')]));
  acknowledge('add-b');
  await squirrel.remove(keyOf('a'));
  acknowledge('remove-a');
  const { rewrittenPacks } = await squirrel.gc();
  if (rewrittenPacks === 0) throw new Error('nothing was written anew');
  acknowledge('gc');
  await squirrel.close();
}

act().catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
