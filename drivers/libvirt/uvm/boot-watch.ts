/**
 * Watches the first boot of an image that is baked. What is to end it well speaks through the gate; this is about boots that
 * come to rest without it, long before the bake's time is over: nothing to boot from, no cloud-init, a panic, a question on
 * the console.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { readConsoleLog } from '../console-log';
import type { Domain } from '../domain';

const LOOK_MS = 10_000;
/** A boot may well wait for something, as for a network that does not answer: systemd gives such things 90 to 120 s. */
const REST_MS = 180_000;
/** Of one processor, which it had or would have liked to have; a guest that waits at its login prompt wants less. */
const REST_SHARE = 0.04;
const NS_PER_MS = 1e6;
const MAX_QUOTE = 160;
// Control characters and terminal sequences of a guest must not reach logs.
const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])/gu;
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\ufffd]+/gu;

/** The boot has come to rest. */
export class BootStalled extends Error {
  override readonly name = 'BootStalled';
}

const threadsSchema = z.array(z.object({ 'thread-id': z.int().positive() }));

/** Rejects with BootStalled once the guest has hardly wanted its processor for three minutes; resolves when aborted. */
export async function watchBoot(domain: Domain, consoleLogPath: string, signal: AbortSignal): Promise<void> {
  const looks: { readonly atMs: number; readonly cpuNs: number }[] = [];
  while (!signal.aborted) {
    const cpuNs = await wantedCpuNs(domain);
    // Not to be known: then only the bake's time ends it.
    if (cpuNs === undefined) return;
    looks.push({ atMs: performance.now(), cpuNs });
    const last = looks.at(-1);
    const then = looks.findLast(({ atMs }) => last !== undefined && last.atMs - atMs >= REST_MS);
    if (last !== undefined && then !== undefined) {
      const share = (last.cpuNs - then.cpuNs) / NS_PER_MS / (last.atMs - then.atMs);
      if (share < REST_SHARE) throw new BootStalled(await lastWords(consoleLogPath));
    }
    await delay(LOOK_MS, undefined, { signal }).catch(() => undefined);
  }
}

/**
 * Nanoseconds for which the guest's processors ran on one of the host's, or waited for one to be free: a starved guest is not
 * at rest. Undefined where the kernel does not tell, or QEMU's threads are not to be seen from here.
 */
async function wantedCpuNs(domain: Domain): Promise<number | undefined> {
  let sumNs = 0;
  for (const thread of threadsSchema.parse(await domain.monitor('query-cpus-fast'))) {
    const text = await readFile(`/proc/${thread['thread-id']}/schedstat`, 'utf8').catch(() => '');
    const [ranNs, waitedNs] = text.split(' ').map(Number);
    if (ranNs === undefined || waitedNs === undefined || !(ranNs > 0)) return undefined;
    sumNs += ranNs + waitedNs;
  }
  return sumNs;
}

/** What there is to say about a boot that did not end well, from its console. */
export async function lastWords(consoleLogPath: string): Promise<string> {
  const text = (await readConsoleLog(consoleLogPath, null)).replace(ESCAPES, '');
  const lines = text.split(/[\r\n]+/).map((line) => line.replace(UNPRINTABLE, ' ').trim());
  const last = lines.findLast((line) => line !== '')?.slice(0, MAX_QUOTE);
  if (last === undefined)
    return 'the image came to rest without a word on its serial console and without cloud-init';
  if (!/cloud-init/i.test(text) && /login: *$/m.test(text)) {
    return 'the image booted to a login prompt without running cloud-init: it has none';
  }
  return `the image's first boot came to rest without getting ready; last on its console: '${last}'`;
}
