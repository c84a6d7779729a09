/**
 * A host that makes µVMs, sends them to the object store, drops them and fetches them again, until it is killed; writes
 * down each operation before it begins and once it is done.
 *
 * hoard-churn.ts NOVA_CONF[,NOVA_CONF] CACHE SCRATCH LOG push|pull|both NAME...
 */
import { appendFileSync } from 'node:fs';
import { keyOfManifest } from '../../../lib/bake';
import { loadConfig } from '../../../lib/config';
import { openStore } from '../../../lib/hoard';
import { HoardingHost, imageIdOf, silent } from '../../support/hoard';

const [conf = '', cache = '', scratch = '', log = '', mode = 'both', ...names] = process.argv.slice(2);

async function churn(): Promise<void> {
  const shared = openStore(await loadConfig(conf.split(',')), silent);
  if (shared === undefined) throw new Error(`${conf} has no object store`);
  const host = await HoardingHost.share(scratch, cache, shared);
  const note = (text: string): void => appendFileSync(log, `${text}\n`);
  await shared.store.objects.prepare();
  for (let turn = 0; ; turn += 1) {
    const name = names[turn % names.length] ?? '';
    if (mode !== 'pull') {
      const uvm = await host.make(scratch, name, 2500, imageIdOf(name));
      note(`begin push ${name} ${uvm.key}`);
      await host.push(uvm);
      note(`done push ${name} ${uvm.key}`);
      if (mode === 'push') continue;
      await host.squirrel.remove(uvm.key);
    }
    for (const uvm of await shared.store.keys(imageIdOf(name))) {
      note(`begin pull ${name} ${uvm.key}`);
      const pulled = await host.pull(uvm);
      if (pulled !== undefined && keyOfManifest(pulled.manifest) !== uvm.key) throw new Error('another came');
      note(`done pull ${name} ${uvm.key}`);
      await host.squirrel.remove(uvm.key);
      note(`dropped ${name} ${uvm.key}`);
      if (mode === 'both') await shared.store.removeEntry(uvm);
    }
  }
}

churn().catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
