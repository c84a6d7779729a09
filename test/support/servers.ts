/** What integration tests ask about servers on this host: are they reachable, and what of them is left. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { CLOUD, NOVA_CONF, type NovaApi, type Server, waitFor } from './nova-api';

export const run = promisify(execFile);
/** devstack/all-in-one. */
export const ALL_IN_ONE = join(__dirname, '..', '..', 'devstack', 'all-in-one');
const INSTANCES = join(CLOUD, 'lib', 'prebake', 'instances');
/** The command, compiled. */
export const PREBAKE = join(__dirname, '..', '..', 'dist', 'lib', 'cli', 'main.js');

/** Makes an image's µVM by the command, beside whatever service runs. */
export async function bakeImage(image: string): Promise<void> {
  await run(process.execPath, [PREBAKE, '--config-file', NOVA_CONF, 'bake', image]);
}

/** The first address of a server. */
export function addressOf(server: Server): string {
  const address = Object.values(server.addresses)[0]?.[0]?.addr;
  if (address === undefined) throw new Error(`server ${server.name} has no address`);
  return address;
}

/** What of a server can be found on the host and in the cloud: domain, files, port, allocation. */
export async function traces(nova: NovaApi, server: Pick<Server, 'id'>): Promise<string[]> {
  const found: string[] = [];
  const { stdout: domains } = await run('virsh', ['-c', 'qemu:///system', 'list', '--all', '--uuid']);
  if (domains.includes(server.id)) found.push('domain');
  if (existsSync(join(INSTANCES, server.id)) || existsSync(join(INSTANCES, `${server.id}_resize`))) {
    found.push('files');
  }
  const ports = z
    .object({ ports: z.array(z.object({ id: z.string() })) })
    .parse(await nova.get('network', `/v2.0/ports?device_id=${server.id}`));
  if (ports.ports.length > 0) found.push('port');
  const { allocations } = z
    .object({ allocations: z.record(z.string(), z.unknown()) })
    .parse(await nova.get('placement', `/allocations/${server.id}`));
  if (Object.keys(allocations).length > 0) found.push('allocation');
  return found;
}

/** Runs virsh on the cloud's libvirt. */
export async function virsh(...args: string[]): Promise<string> {
  return (await run('virsh', ['-c', 'qemu:///system', ...args])).stdout;
}

/** Names of the files of a server, sorted. */
export async function filesOf(id: string): Promise<string[]> {
  return (await readdir(join(INSTANCES, id))).sort();
}

/** What a server's config drive says of its devices. */
export async function devicesOnConfigDrive(id: string): Promise<Readonly<Record<string, unknown>>[]> {
  const drive = join(INSTANCES, id, 'disk.config');
  const { stdout } = await run('isoinfo', ['-R', '-i', drive, '-x', '/openstack/latest/meta_data.json']);
  const schema = z.object({ devices: z.array(z.record(z.string(), z.unknown())) });
  return schema.parse(JSON.parse(stdout)).devices;
}

/** Names of the taps on this machine. */
export async function taps(): Promise<string[]> {
  return (await readdir('/sys/class/net')).filter((name) => name.startsWith('tap'));
}

/** Waits until the server answers a ping from its network. */
export async function waitForPing(nova: NovaApi, server: Server, timeoutMs = 90_000): Promise<void> {
  const address = addressOf(server);
  const namespace = `qdhcp-${await nova.networkId('private')}`;
  await waitFor(
    async () => {
      try {
        await run('ip', ['netns', 'exec', namespace, 'ping', '-c', '1', '-W', '1', address]);
        return true;
      } catch {
        return null;
      }
    },
    timeoutMs,
    () => `${server.name} does not answer at ${address}`,
  );
}
