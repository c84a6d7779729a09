/** `prebake doctor` on a real cloud in which one part after another is really broken: what it finds, and the fix it names. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'amqplib';
import { z } from 'zod';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NOVA_CONF, NovaApi } from '../support/nova-api';
import { ALL_IN_ONE, PREBAKE, run } from '../support/servers';

const HOST = 'prebake';
const HOOKS = '/etc/libvirt/hooks/qemu.d';
const STATE = join(CLOUD, 'lib', 'prebake');
const CACHE = join(STATE, 'prebake');

const reportSchema = z.object({
  healthy: z.boolean(),
  checks: z.array(
    z.object({ name: z.string(), state: z.string(), detail: z.string(), fix: z.string().nullable() }),
  ),
});
const listOf = (name: string) => z.object({ [name]: z.array(z.looseObject({ id: z.string() })) });

/** How the doctor is to be called while the fault is there, and how to undo it. */
interface Planted {
  /** Of one more configuration file. */
  readonly config?: string;
  /** A program that runs what follows it. */
  readonly within?: readonly string[];
  readonly undo?: () => Promise<unknown>;
}

/** Runs a command where these places are other ones, for it alone. */
const where = (mounts: string): Planted => ({
  within: ['unshare', '--mount', 'sh', '-c', `${mounts} && exec "$@"`, 'sh'],
});

let nova: NovaApi;
let compute: ComputeProcess;
let directory: string;
let transportUrl: string;

beforeAll(async () => {
  nova = await NovaApi.login();
  directory = await mkdtemp(join(tmpdir(), 'prebake-doctor-'));
  compute = await ComputeProcess.start();
  await mapHost();
  await nova.waitForHostStatus(HOST, 'enabled');
  transportUrl = /^transport_url = (.*)$/m.exec(await readFile(NOVA_CONF, 'utf8'))?.[1] ?? '';
});
afterAll(async () => {
  await compute.stop();
  await rm(directory, { recursive: true });
});

async function doctor({ config = '', within = [] }: Planted) {
  const file = join(directory, 'more.conf');
  await writeFile(file, config);
  const command = [process.execPath, PREBAKE, '--config-file', NOVA_CONF, '--config-file', file];
  const [program, ...args] = [...within, ...command, 'doctor', '--json'];
  const { code, stdout, stderr } = await new Promise<{ code: unknown; stdout: string; stderr: string }>(
    (resolve) =>
      execFile(program, args, { timeout: 90_000 }, (error, out, err) =>
        resolve({ code: error?.code ?? 0, stdout: out, stderr: err }),
      ),
  );
  if (stdout === '') throw new Error(`the doctor says nothing but: ${stderr}`);
  const { checks, healthy } = reportSchema.parse(JSON.parse(stdout));
  return { code, healthy, checks, failed: checks.filter(({ state }) => state === 'fail') };
}

async function sql(database: string, statement: string): Promise<string> {
  const socket = join(CLOUD, 'run', 'mysqld.sock');
  const login = ['--protocol=socket', '--socket', socket, '--user', 'root'];
  return (await run('mariadb', [...login, '--batch', '-N', database, '-e', statement])).stdout;
}

async function signal(service: string, name: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
  process.kill(Number(await readFile(join(CLOUD, 'run', `${service}.pid`), 'utf8')), name);
}

async function keystoneId(list: string, query: string): Promise<string> {
  const found = listOf(list).parse(await nova.get('identity', `/${list}?${query}`))[list]?.[0]?.id;
  if (found === undefined) throw new Error(`Keystone has no ${list} with ${query}`);
  return found;
}

/** A user like that of the service, but with the role of readers alone. */
async function reader(): Promise<Planted> {
  const identity = nova.url('identity');
  const user = { name: `reader-${Date.now()}`, password: 'reader' };
  const { data } = await nova.http.post<unknown>(`${identity}/users`, { user });
  const { id } = z.object({ user: z.object({ id: z.string() }) }).parse(data).user;
  const project = await keystoneId('projects', 'name=service');
  const role = await keystoneId('roles', 'name=reader');
  await nova.http.put(`${identity}/projects/${project}/users/${id}/roles/${role}`);
  return {
    config: `[neutron]\nusername = ${user.name}\npassword = ${user.password}\n`,
    undo: () => nova.http.delete(`${identity}/users/${id}`),
  };
}

async function withoutPlacement(): Promise<Planted> {
  const service = await keystoneId('services', 'type=placement');
  const { endpoints } = z
    .object({ endpoints: z.array(z.object({ id: z.string() })) })
    .parse(await nova.get('identity', `/endpoints?service_id=${service}`));
  const set = (enabled: boolean): Promise<unknown> =>
    Promise.all(
      endpoints.map(({ id }) =>
        nova.http.patch(`${nova.url('identity')}/endpoints/${id}`, { endpoint: { enabled } }),
      ),
    );
  await set(false);
  return { undo: () => set(true) };
}

/** The agent stands still, for longer than Neutron waits. */
async function deadAgent(): Promise<Planted> {
  const heard = (when: string): Promise<string> =>
    sql(
      'neutron',
      `UPDATE agents SET heartbeat_timestamp = ${when} WHERE host = '${HOST}' AND agent_type = 'Linux bridge agent'`,
    );
  await signal('neutron-linuxbridge', 'SIGSTOP');
  await heard('UTC_TIMESTAMP() - INTERVAL 10 MINUTE');
  return {
    undo: async () => {
      await heard('UTC_TIMESTAMP()');
      await signal('neutron-linuxbridge', 'SIGCONT');
    },
  };
}

/** As the doctor says; before, whatever of the mapping is left is forgotten. */
async function mapHost(): Promise<void> {
  await sql('nova', `UPDATE compute_nodes SET mapped = 0 WHERE host = '${HOST}'`);
  await run(ALL_IN_ONE, ['discover-hosts']);
}

/** The compute node counts as mapped meanwhile, or the scheduler would map it by itself. */
async function unmappedHost(): Promise<Planted> {
  await sql('nova', `UPDATE compute_nodes SET mapped = 1 WHERE host = '${HOST}'`);
  await sql('nova_api', `DELETE FROM host_mappings WHERE host = '${HOST}'`);
  return { undo: mapHost };
}

async function secondService(): Promise<Planted> {
  const connection = await connect(transportUrl.replace(/^rabbit:/, 'amqp:'));
  const channel = await connection.createChannel();
  await channel.consume(`compute.${HOST}`, () => undefined);
  return { undo: () => connection.close() };
}

async function damagedUvm(): Promise<Planted> {
  const manifest = join(CACHE, 'uvms', `${'d0'.repeat(32)}.json`);
  await writeFile(manifest, '{"format":"prebake-uvm","ver');
  return { undo: () => rm(manifest) };
}

const faults: readonly {
  readonly fault: string;
  readonly check: string;
  readonly fix: RegExp;
  readonly plant: () => Planted | Promise<Planted>;
  /** Of the service that runs: it may have noticed, too. */
  readonly besides?: string;
}[] = [
  {
    fault: 'a wrong password for RabbitMQ',
    check: 'amqp',
    fix: /user and password in \[DEFAULT\] transport_url/,
    plant: () => ({
      config: `[DEFAULT]\ntransport_url = ${transportUrl.replace(/:[^:@/]+@/, ':wrong@')}\n`,
    }),
  },
  {
    fault: 'nova-conductor stands still',
    check: 'conductor',
    fix: /start nova-conductor/,
    besides: 'service',
    plant: async () => {
      await signal('nova-conductor', 'SIGSTOP');
      return { undo: () => signal('nova-conductor', 'SIGCONT') };
    },
  },
  {
    fault: 'a second compute service with the same host name',
    check: 'sole-service',
    fix: /systemctl disable --now nova-compute/,
    plant: secondService,
  },
  {
    fault: 'a wrong password for Keystone',
    check: 'keystone-placement',
    fix: /auth_url, username, password, project and domains in \[placement\]/,
    plant: () => ({ config: '[placement]\npassword = wrong\n' }),
  },
  {
    fault: 'a user without the role of a service',
    check: 'keystone-neutron',
    fix: /^openstack role add --user reader-\d+ --project service admin$/,
    plant: reader,
  },
  {
    fault: 'a clock ten minutes ahead',
    check: 'clock',
    fix: /chronyc makestep/,
    plant: () => ({ within: ['faketime', '-f', '+10m'] }),
  },
  {
    fault: 'Placement is not in the catalogue',
    check: 'placement',
    fix: /openstack endpoint create for placement/,
    plant: withoutPlacement,
  },
  {
    fault: 'Neutron knows this host by another name',
    check: 'neutron-agent',
    fix: /set host = prebake in \[DEFAULT\] of nova.conf/,
    plant: () => ({ config: `[DEFAULT]\nhost = ${HOST}.example.org\n` }),
  },
  {
    fault: 'the L2 agent is dead',
    check: 'neutron-agent',
    fix: /restart neutron-linuxbridge-agent/,
    plant: deadAgent,
  },
  {
    fault: 'the host is not mapped to its cell',
    check: 'discovery',
    fix: /nova-manage cell_v2 discover_hosts/,
    plant: unmappedHost,
  },
  {
    fault: 'libvirtd is away',
    check: 'libvirt',
    fix: /systemctl start libvirtd/,
    plant: () => where('mount -t tmpfs none /run/libvirt'),
  },
  {
    fault: 'the hook of libvirt is not installed',
    check: 'libvirt-hook',
    fix: /^install -D -m 755 \S+\/hook\/prebake \/etc\/libvirt\/hooks\/qemu\.d\/prebake, then systemctl restart libvirtd/,
    plant: () => where(`mount -t tmpfs none ${HOOKS}`),
  },
  {
    fault: 'a program is not installed',
    check: 'programs',
    fix: /^apt-get install genisoimage$/,
    plant: () => where('mount --bind /dev/null /usr/bin/genisoimage'),
  },
  {
    fault: 'the cache is on a small file system',
    check: 'disk',
    fix: /free space there, or point .* \[prebake\] cache_directory to a larger file system/,
    plant: () => where(`mount -t tmpfs -o size=64m none ${CACHE}`),
  },
  {
    fault: 'the disk of the servers became read-only',
    check: 'disk',
    fix: /mount -o remount,rw/,
    plant: () =>
      where(
        `mount --bind ${STATE}/instances ${STATE}/instances && mount -o remount,bind,ro ${STATE}/instances`,
      ),
  },
  {
    fault: 'a µVM whose manifest was cut off',
    check: 'cache',
    fix: /^prebake cache rm d0d0d0d0d0d0, then bake its image again/,
    plant: damagedUvm,
  },
  {
    fault: 'more memory is reserved than the host has',
    check: 'memory',
    fix: /lower \[DEFAULT\] reserved_host_memory_mb/,
    plant: () => ({ config: '[DEFAULT]\nreserved_host_memory_mb = 100000000\n' }),
  },
];

test('a good host passes', async () => {
  expect(await doctor({})).toMatchObject({ code: 0, healthy: true, failed: [] });
});

// Nothing else fails: so what was planted before is undone.
test.each(faults)('$fault: $check', async ({ check, fix, plant, besides }) => {
  const planted = await plant();
  try {
    const { code, healthy, failed } = await doctor(planted);
    expect({ code, healthy }).toEqual({ code: 1, healthy: false });
    expect(failed.filter(({ name }) => name !== besides)).toEqual([
      expect.objectContaining({ name: check, fix: expect.stringMatching(fix) as string }),
    ]);
  } finally {
    await planted.undo?.();
  }
});

test('an option that is wrong has an exit code of its own', async () => {
  const { code, failed } = await doctor({ config: '[DEFAULT]\nreserved_host_memory_mb = much\n' });
  expect(code).toBe(2);
  expect(failed).toMatchObject([
    { name: 'configuration', detail: expect.stringContaining('reserved_host_memory_mb = much') as string },
  ]);
});

test('with all of it undone the host passes again', async () => {
  expect(await doctor({})).toMatchObject({ code: 0, healthy: true, failed: [] });
});
