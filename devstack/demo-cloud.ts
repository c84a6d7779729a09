/** The demo's hands: the openstack client, devstack/all-in-one, and ssh into guests through Neutron's DHCP namespace. */
import { type SpawnOptions, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

/** This checkout, seen from dist/devstack. */
export const ROOT = join(__dirname, '..', '..');
export const CLOUD = process.env['PREBAKE_CLOUD'] ?? '/srv/prebake-cloud';
export const NETWORK = 'private';

/** What the demo stops with; its text is all the user needs. */
export class DemoError extends Error {}

/** How a program is run; `show` leaves its output to the terminal and returns nothing of it. */
interface RunOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly show?: 'all' | 'errors';
}

/** Runs a program to its end. @returns standard output; rejects with DemoError that quotes standard error */
export async function run(program: string, args: readonly string[], options: RunOptions): Promise<string> {
  const stdio: SpawnOptions['stdio'] = [
    'ignore',
    options.show === 'all' ? 'inherit' : 'pipe',
    options.show === undefined ? 'pipe' : 'inherit',
  ];
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutMs)]);
  const child = spawn(program, args, { stdio, signal });
  let output = '';
  let errors = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code === 0) return output;
  throw new DemoError(`${program} ${args.join(' ')} failed (${code ?? 'killed'})\n${errors.trim()}`);
}

/** Asks again until `probe` has an answer. */
export async function until<T>(
  what: string,
  options: RunOptions & { readonly everyMs: number },
  probe: () => Promise<T | undefined>,
): Promise<T> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new DemoError(`${what}: not after ${options.timeoutMs / 1000} s`);
    await delay(options.everyMs, undefined, { signal: options.signal });
  }
}

const FACTS_SCRIPT = `
printf 'hostname=%s\\n' "$(hostname)"
printf 'vcpus=%s\\n' "$(nproc)"
printf 'memoryKib=%s\\n' "$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)"
printf 'rootBytes=%s\\n' "$(df -B1 --output=size / | tail -n 1 | tr -d ' ')"
printf 'machineId=%s\\n' "$(cat /etc/machine-id)"
printf 'hostKey=%s\\n' "$(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)"
printf 'address=%s\\n' "$(ip -4 -o addr show scope global | sed -n 's/.* inet \\([0-9.]*\\).*/\\1/p' | head -n 1)"
`;

const factsSchema = z.object({
  hostname: z.string().min(1),
  vcpus: z.coerce.number(),
  memoryKib: z.coerce.number(),
  rootBytes: z.coerce.number(),
  machineId: z.string().min(1),
  hostKey: z.string().min(1),
  address: z.string().min(1),
});
/** What a guest says about itself when it is logged in to. */
export type GuestFacts = z.infer<typeof factsSchema>;

const serverSchema = z.object({
  id: z.string(),
  status: z.string(),
  addresses: z.record(z.string(), z.array(z.string())),
  fault: z.unknown().optional(),
});
const serviceSchema = z.array(z.object({ Host: z.string(), State: z.string(), Status: z.string() }));
const imageSchema = z.object({ id: z.string(), properties: z.looseObject({ os_hash_value: z.string() }) });

/** The cloud that devstack/all-in-one has brought up. */
export class DemoCloud {
  constructor(private readonly signal: AbortSignal) {}

  /** Runs devstack/all-in-one with its own progress shown. */
  async allInOne(...args: string[]): Promise<void> {
    const program = join(ROOT, 'devstack', 'all-in-one');
    await run(program, args, { timeoutMs: 1_200_000, signal: this.signal, show: 'all' });
  }

  /** Lets Nova see a compute host that is new to it. */
  async discoverHosts(): Promise<void> {
    const program = join(ROOT, 'devstack', 'all-in-one');
    await run(program, ['discover-hosts'], { timeoutMs: 120_000, signal: this.signal });
  }

  /** Builds and uploads an image if need be. @returns its id */
  async image(name: string): Promise<string> {
    const program = join(ROOT, 'devstack', 'all-in-one');
    const output = await run(program, ['image', name], {
      timeoutMs: 600_000,
      signal: this.signal,
      show: 'errors',
    });
    return output.trim().split('\n').at(-1) ?? '';
  }

  /** Runs the openstack client as the administrator. */
  async openstack(...args: string[]): Promise<string> {
    const login = ['-c', '. "$0" && exec openstack "$@"', join(ROOT, 'devstack', 'openrc'), ...args];
    return run('bash', login, { timeoutMs: 180_000, signal: this.signal });
  }

  /** SHA-512 of an image's bytes, undefined when there is no such image. */
  async imageHash(nameOrId: string): Promise<string | undefined> {
    const list = await this.openstack('image', 'list', '-f', 'value', '-c', 'ID', '-c', 'Name');
    if (!list.split(/\s+/).includes(nameOrId)) return undefined;
    const text = await this.openstack('image', 'show', '-f', 'json', nameOrId);
    return imageSchema.parse(JSON.parse(text)).properties.os_hash_value;
  }

  /** Waits until Nova calls the compute host up. */
  async waitForHost(host: string): Promise<void> {
    const options = { timeoutMs: 60_000, everyMs: 500, signal: this.signal };
    await until(`nova-compute on host ${host} is up`, options, async () => {
      const text = await this.openstack(
        ...['compute', 'service', 'list', '--service', 'nova-compute', '--host', host, '-f', 'json'],
      );
      return serviceSchema.parse(JSON.parse(text)).find((service) => service.State === 'up');
    });
  }

  /** Deletes servers by name, those that exist. */
  async deleteServers(names: readonly string[]): Promise<void> {
    const text = await this.openstack('server', 'list', '-f', 'json', '-c', 'ID', '-c', 'Name');
    const servers = z.array(z.object({ ID: z.string(), Name: z.string() })).parse(JSON.parse(text));
    const ids = servers.filter((server) => names.includes(server.Name)).map((server) => server.ID);
    if (ids.length > 0) await this.openstack('server', 'delete', '--wait', ...ids);
  }

  async showServer(id: string): Promise<z.infer<typeof serverSchema>> {
    return serverSchema.parse(JSON.parse(await this.openstack('server', 'show', '-f', 'json', id)));
  }
}

/** A way into the guests of one network: the namespace of its DHCP server, and a key. */
export class GuestAccess {
  constructor(
    private readonly namespace: string,
    private readonly keyPath: string,
    private readonly signal: AbortSignal,
  ) {}

  /** Resolves when an ssh server answers at the address with its greeting. */
  async waitForSsh(address: string, timeoutMs: number): Promise<void> {
    const greeting = 'exec 3<>"/dev/tcp/$0/22" && read -r line <&3 && [[ $line == SSH-* ]]';
    const loop = `until timeout 2 bash -c '${greeting}' "$0" 2>/dev/null; do sleep 0.1; done`;
    await this.inNamespace(['bash', '-c', loop, address], timeoutMs);
  }

  /** Logs in and asks the guest about itself. */
  async facts(address: string): Promise<GuestFacts> {
    const options = { timeoutMs: 120_000, everyMs: 1000, signal: this.signal };
    let last: unknown;
    const text = await until(`a login at ${address}`, options, async () =>
      this.inNamespace([...this.sshCommand(address), FACTS_SCRIPT], 30_000).catch((error: unknown) => {
        this.signal.throwIfAborted();
        last = error;
        return undefined;
      }),
    ).catch((error: unknown) => {
      throw new DemoError(`no login at ${address}`, { cause: last ?? error });
    });
    const lines = text.split('\n').map((line) => line.split(/=(.*)/s, 2));
    return factsSchema.parse(Object.fromEntries(lines.filter((line) => line.length === 2)));
  }

  /** The command that logs in, as one would type it. */
  loginCommand(address: string): string {
    return ['ip', 'netns', 'exec', this.namespace, ...this.sshCommand(address)].join(' ');
  }

  private sshCommand(address: string): string[] {
    const options = [
      'StrictHostKeyChecking=no',
      'UserKnownHostsFile=/dev/null',
      'LogLevel=ERROR',
      'ConnectTimeout=10',
    ];
    return ['ssh', '-i', this.keyPath, ...options.flatMap((option) => ['-o', option]), `debian@${address}`];
  }

  private async inNamespace(command: readonly string[], timeoutMs: number): Promise<string> {
    return run('ip', ['netns', 'exec', this.namespace, ...command], { timeoutMs, signal: this.signal });
  }
}
