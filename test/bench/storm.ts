/**
 * Fifty boots of ten images at once, on prebake and then on a stock nova-compute: servers ready a minute, and how much longer
 * the last ones wait than the middle one. Ready is an SSH server that answers.
 */
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { CLOUD, NOVA_CONF, waitFor } from '../support/nova-api';
import { run } from '../support/servers';
import { type Figure, type Goal, figure, quantile } from './figures';
import type { BenchOptions } from './main';
import { SshWatch } from './ssh-watch';
import { STOCK_HOST } from './stock-host';
import { PEER, type TwoHosts, requireClone, withTwoHosts } from './two-hosts';

const IMAGES = 10;
const BOOTS = 50;
const FLAVOR = 'm1.mini';
const SOURCE = join(CLOUD, 'images', 'tiny-ssh.qcow2');
const READY_TIMEOUT_MS = 900_000;
const DELETE_TIMEOUT_MS = 600_000;
const MAIN = join(__dirname, '..', '..', 'dist', 'lib', 'cli', 'main.js');

/** One storm: milliseconds from each RPC to its server's readiness, and from the first RPC to the last server. */
interface Storm {
  readonly readyMs: readonly number[];
  readonly totalMs: number;
}

const serversSchema = z.object({ servers: z.array(z.object({ id: z.string() })) });

/** An image of the storm; one that was there before stays. */
interface StormImage {
  readonly id: string;
  readonly isNew: boolean;
}

/** Images of the same guest that differ in a block nobody reads: to every cache they are different images. */
async function findOrMakeImages({ nova }: TwoHosts): Promise<StormImage[]> {
  const scratch = await mkdtemp(join(tmpdir(), 'prebake-storm-'));
  const images: StormImage[] = [];
  try {
    for (let index = 0; index < IMAGES; index++) {
      const name = `bench-storm-${index}`;
      const known = await nova.activeImage(name);
      if (known !== null) {
        images.push({ id: known, isNew: false });
        continue;
      }
      const file = join(scratch, 'image.qcow2');
      await copyFile(SOURCE, file);
      await run('qemu-img', ['resize', '-q', file, '96M']);
      await run('qemu-io', ['-f', 'qcow2', '-c', `write -q -P ${index + 1} 80M 64k`, file]);
      images.push({ id: await nova.upload(name, 'qcow2', await readFile(file)), isNew: true });
    }
    return images;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Takes no time for those that are baked already. */
async function bake(images: readonly StormImage[], say: (line: string) => void): Promise<void> {
  for (const [index, { id }] of images.entries()) {
    say(`bake ${index + 1} of ${images.length}`);
    await run(process.execPath, [MAIN, '--config-file', NOVA_CONF, 'bake', id], { timeout: 600_000 });
  }
}

/** Quotas are for tenants; this is the administrator's own project. */
async function liftQuotas({ nova }: TwoHosts): Promise<void> {
  await nova.http.put(`${nova.url('compute')}/os-quota-sets/${nova.projectId}`, {
    quota_set: { instances: -1, cores: -1, ram: -1 },
  });
}

/** Asked for one by one, each would cost Nova and Neutron more than its deletion does. */
async function deleteAll(servers: readonly string[], { nova }: TwoHosts): Promise<void> {
  await Promise.all(servers.map(async (id) => await nova.delete(id)));
  await waitFor(
    async () => {
      const left = serversSchema.parse(await nova.get('compute', '/servers')).servers;
      return left.some(({ id }) => servers.includes(id)) ? null : true;
    },
    DELETE_TIMEOUT_MS,
    () => 'servers of the storm are still there',
  );
}

async function storm(
  host: string,
  images: readonly string[],
  boots: number,
  hosts: TwoHosts,
): Promise<Storm> {
  const { nova, bus, namespace } = hosts;
  const networks = [{ uuid: await nova.networkId('private') }];
  const flavor = await nova.flavorId(FLAVOR);
  const watch = SshWatch.start(namespace);
  const servers: string[] = [];
  try {
    const times = await Promise.all(
      Array.from({ length: boots }, async (_, index) => {
        const image = images[index % images.length] ?? '';
        const name = `bench-storm-${index}`;
        const id = await nova.create({ name, image, flavor, host, configDrive: true, networks });
        servers.push(id);
        const publishedMs = await bus.moment(id, 'published', READY_TIMEOUT_MS);
        const address = await bus.address(id, READY_TIMEOUT_MS);
        watch.add(address);
        return { publishedMs, readyMs: await watch.moment(address, READY_TIMEOUT_MS) };
      }),
    );
    if (host === hosts.host) for (const id of servers) await requireClone(id, hosts);
    const first = Math.min(...times.map(({ publishedMs }) => publishedMs));
    return {
      readyMs: times.map(({ publishedMs, readyMs }) => readyMs - publishedMs),
      totalMs: Math.max(...times.map(({ readyMs }) => readyMs)) - first,
    };
  } finally {
    await watch.stop();
    await deleteAll(servers, hosts);
  }
}

export async function storms({ runs, say }: BenchOptions): Promise<Figure[]> {
  return await withTwoHosts(say, async (hosts) => {
    await liftQuotas(hosts);
    const made = await findOrMakeImages(hosts);
    const images = made.map(({ id }) => id);
    try {
      await bake(made, say);
      say('a first boot of each image on each host, which nobody counts');
      for (const host of [hosts.host, STOCK_HOST]) await storm(host, images, images.length, hosts);
      const ours: Storm[] = [];
      const theirs: Storm[] = [];
      let longTurns = await longTurnsOf(hosts);
      const blocked: number[] = [];
      for (let run = 1; run <= runs; run++) {
        ours.push(await storm(hosts.host, images, BOOTS, hosts));
        const now = await longTurnsOf(hosts);
        blocked.push(now - longTurns);
        longTurns = now;
        theirs.push(await storm(STOCK_HOST, images, BOOTS, hosts));
        say(`run ${run}, ms until all are ready: ${ours.at(-1)?.totalMs}, ${PEER} ${theirs.at(-1)?.totalMs}`);
      }
      const perMinute = ({ totalMs }: Storm): number => (BOOTS * 60_000) / totalMs;
      const unevenness = ({ readyMs }: Storm): number => quantile(readyMs, 0.99) / quantile(readyMs, 0.5);
      const compare = (name: string, unit: string, of: (storm: Storm) => number, goal?: Goal): Figure =>
        figure({
          name,
          unit,
          values: ours.map(of),
          peer: { name: PEER, values: theirs.map(of) },
          ...(goal && { goal }),
        });
      return [
        compare(
          `servers ready a minute, ${BOOTS} boots of ${IMAGES} images at once`,
          'servers/min',
          perMinute,
          { of: 'ratio', bound: 'at least', limit: 10 },
        ),
        compare('time to ready, p99 / p50', 'times', unevenness, {
          of: 'value',
          bound: 'at most',
          limit: 3,
        }),
        compare('time to ready, the middle one', 'ms', ({ readyMs }) => quantile(readyMs, 0.5)),
        figure({
          name: 'turns of the event loop of 50 ms or more',
          unit: 'turns',
          values: blocked,
          goal: { of: 'value', bound: 'at most', limit: 0 },
        }),
      ];
    } finally {
      for (const { id, isNew } of made) if (isNew) await hosts.nova.deleteImage(id);
    }
  });
}

/** How often the service's event loop has been blocked since its start. */
async function longTurnsOf({ prebake }: TwoHosts): Promise<number> {
  const { data } = await prebake.get('/metrics');
  return Number(/^prebake_event_loop_blocked_seconds_count (\d+)/m.exec(z.string().parse(data))?.[1]);
}
