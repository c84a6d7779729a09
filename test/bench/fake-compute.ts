/** Stock nova-compute with Nova's fake driver as one more host of the all-in-one, for as long as a bench needs it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { NOVA_CONF, type NovaApi, waitFor } from '../support/nova-api';

export const FAKE_HOST = 'bench-fake';
const SCRIPT = join(__dirname, 'fake_nova_compute.py');

const servicesSchema = z.object({ services: z.array(z.looseObject({ id: z.string(), state: z.string() })) });

export class FakeCompute {
  private constructor(
    private readonly nova: NovaApi,
    private readonly child: ChildProcess,
    private readonly directory: string,
  ) {}

  /** Starts it; resolves when Nova calls it up. */
  static async start(nova: NovaApi): Promise<FakeCompute> {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-bench-'));
    const conf = join(directory, 'nova.conf');
    await writeFile(conf, overrides(await readFile(NOVA_CONF, 'utf8'), directory), { mode: 0o600 });
    const child = spawn('/usr/bin/python3', ['-W', 'ignore', SCRIPT, '--config-file', conf], {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', HOME: directory },
      stdio: 'ignore',
    });
    const fake = new FakeCompute(nova, child, directory);
    try {
      await waitFor(
        async () => {
          if (child.exitCode !== null) throw new Error(`the stock nova-compute ended with ${child.exitCode}`);
          return (await fake.services()).some(({ state }) => state === 'up') ? true : null;
        },
        90_000,
        () => `Nova does not know the host ${FAKE_HOST}`,
      );
    } catch (error) {
      await fake.stop();
      throw error;
    }
    return fake;
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('the stock nova-compute did not start');
    return this.child.pid;
  }

  /** Stops it and makes the cloud forget the host. */
  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = once(this.child, 'exit');
      this.child.kill('SIGTERM');
      const timer = setTimeout(() => this.child.kill('SIGKILL'), 15_000);
      await ended;
      clearTimeout(timer);
    }
    for (const { id } of await this.services()) {
      await this.nova.http.delete(`${this.nova.url('compute')}/os-services/${id}`);
    }
    await rm(this.directory, { recursive: true, force: true });
  }

  private async services(): Promise<z.infer<typeof servicesSchema>['services']> {
    return servicesSchema.parse(await this.nova.get('compute', `/os-services?host=${FAKE_HOST}`)).services;
  }
}

/** The compute host's own configuration, but for who and where it is, and for its driver. */
function overrides(conf: string, directory: string): string {
  const own = new Map([
    ['host', FAKE_HOST],
    ['compute_driver', 'fake.FakeDriver'],
    ['state_path', directory],
    ['instances_path', join(directory, 'instances')],
    ['lock_path', directory],
    ['log_dir', directory],
  ]);
  const lines = conf.split('\n').map((line) => {
    const name = /^(\w+) *=/.exec(line)?.[1];
    const value = name === undefined ? undefined : own.get(name);
    return name === undefined || value === undefined ? line : `${name} = ${value}`;
  });
  return lines.join('\n');
}
