/**
 * Fifty boots of ten images at once, on prebake and then on a stock nova-compute: servers ready a minute, and how much longer
 * the last ones wait than the middle one. Ready is an SSH server that answers.
 */
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { CLOUD, NOVA_CONF } from '../support/nova-api';
import { run } from '../support/servers';
import { type Figure, figure, quantile } from './figures';
import type { BenchOptions } from './main';
import { SshWatch } from './ssh-watch';
import { STOCK_HOST } from './stock-host';
import { PEER, type TwoHosts, deleteServer, requireClone, withTwoHosts } from './two-hosts';

const IMAGES = 10;
const BOOTS = 50;
const FLAVOR = 'm1.mini';
const SOURCE = join(CLOUD, 'images', 'tiny-ssh.qcow2');
const READY_TIMEOUT_MS = 1_800_000;
const MAIN = join(__dirname, '..', '..', 'dist', 'lib', 'cli', 'main.js');

/** One storm: milliseconds from each RPC to its server's readiness, and from the first RPC to the last server. */
interface Storm {
  readonly readyMs: readonly number[];
  readonly totalMs: number;
}

const portSchema = z.object({
  port: z.object({ id: z.string(), fixed_ips: z.array(z.object({ ip_address: z.string() })) }),
});

/** Images of the same guest that differ in a block nobody reads: to every cache they are different images. */
async function makeImages(hosts: TwoHosts): Promise<string[]> {
  const scratch = await mkdtemp(join(tmpdir(), 'prebake-storm-'));
  const ids: string[] = [];
  try {
    for (let index = 0; index < IMAGES; index++) {
      const file = join(scratch, 'image.qcow2');
      await copyFile(SOURCE, file);
      await run('qemu-img', ['resize', '-q', file, '96M']);
      await run('qemu-io', ['-f', 'qcow2', '-c', `write -q -P ${index + 1} 80M 64k`, file]);
      ids.push(await hosts.nova.upload(`bench-storm-${index}`, 'qcow2', await readFile(file)));
    }
    return ids;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function bakeAll(images: readonly string[], say: (line: string) => void): Promise<void> {
  for (const [index, image] of images.entries()) {
    say(`bake ${index + 1} of ${images.length}`);
    await run(process.execPath, [MAIN, '--config-file', NOVA_CONF, 'bake', image], { timeout: 600_000 });
  }
}

/** Quotas are for tenants; this is the administrator's own project. */
async function liftQuotas({ nova }: TwoHosts): Promise<void> {
  await nova.http.put(`${nova.url('compute')}/os-quota-sets/${nova.projectId}`, {
    quota_set: { instances: -1, cores: -1, ram: -1 },
  });
}

async function storm(
  host: string,
  images: readonly string[],
  boots: number,
  hosts: TwoHosts,
): Promise<Storm> {
  const { nova, bus, namespace } = hosts;
  const network = await nova.networkId('private');
  const flavor = await nova.flavorId(FLAVOR);
  const ports = await Promise.all(
    Array.from({ length: boots }, async () => {
      const { data } = await nova.http.post<unknown>(`${nova.url('network')}/v2.0/ports`, {
        port: { network_id: network, name: 'bench-storm' },
      });
      const { port } = portSchema.parse(data);
      return { id: port.id, address: port.fixed_ips[0]?.ip_address ?? '' };
    }),
  );
  const watch = SshWatch.start(
    namespace,
    ports.map(({ address }) => address),
  );
  const servers: string[] = [];
  try {
    const times = await Promise.all(
      ports.map(async (port, index) => {
        const id = await nova.create({
          name: `bench-storm-${index}`,
          image: images[index % images.length] ?? '',
          flavor,
          host,
          configDrive: true,
          networks: [{ port: port.id }],
        });
        servers.push(id);
        const publishedMs = await bus.moment(id, 'published', READY_TIMEOUT_MS);
        return { publishedMs, readyMs: await watch.moment(port.address, READY_TIMEOUT_MS) };
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
    for (const id of servers) await deleteServer(id, hosts);
    for (const { id } of ports) await nova.http.delete(`${nova.url('network')}/v2.0/ports/${id}`);
  }
}

export async function storms({ runs, say }: BenchOptions): Promise<Figure[]> {
  return await withTwoHosts(say, async (hosts) => {
    await liftQuotas(hosts);
    const images = await makeImages(hosts);
    try {
      await bakeAll(images, say);
      say('a first boot of each image on each host, which nobody counts');
      for (const host of [hosts.host, STOCK_HOST]) await storm(host, images, images.length, hosts);
      const ours: Storm[] = [];
      const theirs: Storm[] = [];
      for (let run = 1; run <= runs; run++) {
        ours.push(await storm(hosts.host, images, BOOTS, hosts));
        theirs.push(await storm(STOCK_HOST, images, BOOTS, hosts));
        say(`run ${run}, ms until all are ready: ${ours.at(-1)?.totalMs}, ${PEER} ${theirs.at(-1)?.totalMs}`);
      }
      const perMinute = ({ totalMs }: Storm): number => (BOOTS * 60_000) / totalMs;
      const unevenness = ({ readyMs }: Storm): number => quantile(readyMs, 0.99) / quantile(readyMs, 0.5);
      return [
        figure({
          name: `servers ready a minute, ${BOOTS} boots of ${IMAGES} images at once`,
          unit: 'servers/min',
          values: ours.map(perMinute),
          peer: { name: PEER, values: theirs.map(perMinute) },
          goal: { of: 'ratio', bound: 'at least', limit: 10 },
        }),
        figure({
          name: 'time to ready, p99 / p50',
          unit: 'times',
          values: ours.map(unevenness),
          peer: { name: PEER, values: theirs.map(unevenness) },
          goal: { of: 'value', bound: 'at most', limit: 3 },
        }),
      ];
    } finally {
      for (const image of images) await hosts.nova.deleteImage(image);
    }
  });
}
