/**
 * Adds, removes and collects made-up µVMs, sends them to an object store and fetches them again, until it is killed; notes
 * each operation before it begins and once it is done.
 *
 * squirrel-churn.ts CACHE SCRATCH LOG KEYSTONE NAME...
 */
import { appendFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { HoardingHost, imageIdOf, keyOfMade, openObjects, shareThrough } from '../../support/hoard';
import { makeDraft, page } from '../../support/squirrel';

const [cache = '', scratch = '', log = '', keystone = '', ...names] = process.argv.slice(2);
/** Of each name one after the other; which is the first is left to chance. */
const ACTS = ['add', 'send', 'fetch', 'add', 'remove'] as const;

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

/** @param digest of the memory that the µVM has afterwards, `-` for none */
async function noted(
  act: 'add' | 'remove' | 'send' | 'fetch',
  name: string,
  digest: string,
  work: () => Promise<unknown>,
): Promise<void> {
  appendFileSync(log, `begin ${name} ${digest} ${act}\n`);
  await work();
  appendFileSync(log, `done ${name} ${digest}\n`);
}

async function churn(): Promise<never> {
  const shared = shareThrough(openObjects(keystone), 'churn');
  await shared.store.objects.prepare();
  const host = await HoardingHost.share(scratch, cache, shared);
  /** What this process has added. */
  const present = new Map<string, string>();
  /** What this process has sent. */
  const sent = new Map<string, string>();
  for (let turn = process.pid; ; turn += 1) {
    const name = names[Math.floor(turn / ACTS.length) % names.length] ?? '';
    const image = { id: imageIdOf(name), checksum: null };
    const key = keyOfMade(image.id);
    const uvm = { imageId: image.id, key };
    const digest = present.get(name);
    const act = ACTS[turn % ACTS.length];
    const remove = (): Promise<void> => noted('remove', name, '-', () => host.squirrel.remove(key));
    if (act === 'remove') {
      await remove();
      present.delete(name);
    } else if (act === 'send' && digest !== undefined) {
      await noted('send', `store/${name}`, digest, () => host.push(uvm, true));
      sent.set(name, digest);
    } else if (act === 'fetch' && digest !== undefined && sent.get(name) === digest) {
      await remove();
      await noted('fetch', name, digest, () => host.pull(uvm));
    } else {
      const ram = memory(turn);
      const { files, description } = await makeDraft(scratch, name, ram);
      const added = createHash('sha256').update(Buffer.concat(ram)).digest('hex');
      await noted('add', name, added, async () => {
        await host.squirrel.add({ files, description: { ...description, image, key } });
        await host.squirrel.release(key);
      });
      present.set(name, added);
    }
    if (turn % 2 === 0) await host.squirrel.gc();
  }
}

churn().catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
