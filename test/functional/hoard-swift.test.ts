/**
 * Sharing µVMs over the all-in-one's real Swift: hosts that are killed while they send, fetch or hold a claim. The µVMs are
 * made up: nothing here looks into them.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, loadConfig } from '../../lib/config';
import { SEGMENT_BYTES, type SharedStore, openStore } from '../../lib/hoard';
import { HoardingHost, imageIdOf, shareThrough, silent } from '../support/hoard';
import { NOVA_CONF } from '../support/nova-api';
import { until } from './support/until';

let directory: string;
let config: Config;
let shared: SharedStore;
let host: HoardingHost;

/** The all-in-one's host with a container of this test's own; `limit` MiB a second each way. */
async function writeConf(name: string, container: string, limit: number): Promise<string> {
  const path = join(directory, name);
  const own = [
    'object_store = swift',
    `object_store_container = ${container}`,
    `fetch_limit_mib_s = ${limit}`,
    `upload_limit_mib_s = ${limit}`,
  ];
  await writeFile(path, `[prebake]\n${own.join('\n')}\n`);
  return path;
}

function open(configuration: Config): SharedStore {
  const opened = openStore(configuration, silent);
  if (opened === undefined) throw new Error('no object store');
  return opened;
}

let slowConf: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'hoard-swift-'));
  const container = `prebake-test-${randomUUID()}`;
  config = await loadConfig([NOVA_CONF, await writeConf('fast.conf', container, 0)]);
  slowConf = await writeConf('slow.conf', container, 3);
  shared = open(config);
  await shared.store.objects.prepare();
  host = await HoardingHost.share(directory, join(directory, 'host'), shared);
});
afterAll(async () => {
  await host.squirrel.close();
  const { objects } = await shared.store.objects.list('');
  for (const { name } of objects) await shared.store.objects.remove(name);
  await rm(directory, { recursive: true, force: true });
});

/** Another host, slow, that sends or fetches one µVM again and again. */
function startOther(mode: 'push' | 'pull', name: string): ChildProcess {
  const log = join(directory, `${name}.log`);
  const args = [NOVA_CONF, slowConf].join(',');
  return fork(
    join(__dirname, 'support/hoard-churn.ts'),
    [args, join(directory, mode), directory, log, mode, name],
    {
      execArgv: ['--require', join(__dirname, '../register-typescript.cjs')],
    },
  );
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

test('kill -9 while sending and while fetching: what was acknowledged does not travel twice', async () => {
  const name = `killed-${randomUUID()}`;
  const sender = startOther('push', name);
  await until('two segments in the store', async () => (await shared.store.segments()).found.length >= 2);
  await kill(sender);
  const stored = (await shared.store.segments()).found.length;
  expect(await shared.store.keys(imageIdOf(name))).toEqual([]);

  const uvm = await host.make(directory, name, 2500, imageIdOf(name));
  const sent = await host.push(uvm);
  expect(sent?.sentBytes).toBe((sent?.totalBytes ?? 0) - stored * SEGMENT_BYTES);

  const fetcher = startOther('pull', name);
  const incoming = join(directory, 'pull', 'incoming', uvm.key);
  const arrived = async (): Promise<string[]> =>
    (await readdir(incoming).catch(() => [])).filter((file) => /^[0-9a-f]{64}$/.test(file));
  await until('a segment at the other host', async () => (await arrived()).length >= 1);
  await kill(fetcher);
  const kept = (await arrived()).length;

  const other = await HoardingHost.share(directory, join(directory, 'pull'), shared);
  const pulled = await other.pull(uvm);
  expect(pulled?.sentBytes).toBe((sent?.totalBytes ?? 0) - kept * SEGMENT_BYTES);
  expect((await other.squirrel.verify(uvm.key)).problems).toEqual([]);
  expect(await readdir(join(directory, 'pull', 'incoming'))).toEqual(['lock']);
  await other.squirrel.close();
});

test('the claim of a host that died is another one’s soon after, and only one’s', async () => {
  const times = { lifeS: 3, renewMs: 500, settleMs: 1000 };
  const { objects } = shared.store;
  const claims = ['first', 'second', 'third'].map((name) => shareThrough(objects, name, times).claims);
  const key = randomUUID();
  const dead = shareThrough(objects, 'dead', { ...times, renewMs: 3_600_000 }).claims;
  const taken = await Promise.all([dead.take(key), dead.take(key), dead.take(key)]);
  expect(taken.filter((claim) => claim !== undefined)).toHaveLength(1);
  let winners: unknown[] = [];
  await until('the claim to run out', async () => {
    const tries = await Promise.all(claims.map((one) => one.take(key)));
    winners = tries.filter((claim) => claim !== undefined);
    return winners.length > 0;
  });
  expect(winners).toHaveLength(1);
  // The winner is alive: its claim outlives its time.
  const begun = Date.now();
  await until('more than a claim’s life', () => Date.now() > begun + 1000 * times.lifeS + 1000);
  expect(await Promise.all(claims.map((one) => one.take(key)))).toEqual([undefined, undefined, undefined]);
});
