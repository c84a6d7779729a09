/** The compiled service as a process of its own, as an operator runs it: started, asked, stopped, killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import axios from 'axios';
import { z } from 'zod';
import { CLOUD, NOVA_CONF, waitFor } from './nova-api';

const MAIN = join(__dirname, '..', '..', 'dist', 'lib', 'main.js');
/** What node is told where an operator starts the program by its name. */
const nodeOptions = (): string[] => {
  const [firstLine = ''] = readFileSync(MAIN, 'utf8').split('\n', 1);
  return firstLine.split(' ').filter((word) => word.startsWith('--'));
};
/** Where the sidecar listens unless the configuration says otherwise. */
const SIDECAR = '127.0.0.1:8790';

const bootsSchema = z.object({
  boots: z.array(
    z.looseObject({
      instanceUuid: z.string(),
      imageId: z.string(),
      startedAt: z.string(),
      how: z.enum(['uvm', 'cold']).nullable(),
      why: z.string().nullable(),
      outcome: z.string(),
      error: z.string().nullable(),
      traceId: z.string().nullable(),
      marks: z.array(z.object({ name: z.string(), atMs: z.number() })),
      spans: z.array(z.object({ name: z.string(), startMs: z.number(), endMs: z.number() })),
    }),
  ),
});
/** One boot as the sidecar shows it. */
export type BootRecord = z.infer<typeof bootsSchema>['boots'][number];

/** One run of prebake-compute. */
export class ComputeProcess {
  /** Where its page and metrics are. */
  readonly url: string;
  private output = '';

  private constructor(
    private readonly child: ChildProcess,
    sidecar: string,
  ) {
    this.url = `http://${sidecar}`;
  }

  /** Starts the service and waits until it takes requests. */
  static async start(
    options: {
      readonly configFiles?: readonly string[];
      readonly environment?: Readonly<Record<string, string>>;
      /** What the configuration has as its `sidecar_listen`. */
      readonly sidecar?: string;
    } = {},
  ): Promise<ComputeProcess> {
    const files = options.configFiles ?? [NOVA_CONF];
    await mkdir(join(CLOUD, 'log'), { recursive: true });
    const log = createWriteStream(join(CLOUD, 'log', 'prebake-compute-test.log'), { flags: 'a' });
    const child = spawn(
      process.execPath,
      [...nodeOptions(), MAIN, ...files.flatMap((file) => ['--config-file', file])],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.environment } },
    );
    const running = new ComputeProcess(child, options.sidecar ?? SIDECAR);
    const take = (chunk: Buffer): void => {
      running.output = (running.output + chunk.toString()).slice(-20_000);
      log.write(chunk);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.once('close', () => log.end());
    await waitFor(
      async () => {
        if (child.exitCode !== null)
          throw new Error(`prebake-compute ended with ${child.exitCode}:\n${running.output}`);
        const ready = await running.get('/readyz').catch(() => null);
        return ready?.status === 200 ? true : null;
      },
      60_000,
      () => `prebake-compute is not up; see ${join(CLOUD, 'log')}:\n${running.output}`,
    );
    return running;
  }

  /** Sends a signal and does not wait. */
  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** Waits for the end; the exit code, or the name of the signal that ended it. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
    return this.child.exitCode ?? this.child.signalCode;
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('prebake-compute did not start');
    return this.child.pid;
  }

  async get(path: string): Promise<{ readonly status: number; readonly data: unknown }> {
    const { status, data } = await axios.get<unknown>(`${this.url}${path}`, {
      proxy: false,
      timeout: 10_000,
      validateStatus: () => true,
    });
    return { status, data };
  }

  /** The boot of this server, if this process made it. */
  async boot(instanceUuid: string): Promise<BootRecord | null> {
    const { data } = await this.get('/boots');
    return bootsSchema.parse(data).boots.find((boot) => boot.instanceUuid === instanceUuid) ?? null;
  }

  /** Waits until the guest of a clone has its identity and resources. */
  async waitForReady(instanceUuid: string, timeoutMs = 180_000): Promise<BootRecord> {
    let last: BootRecord | null = null;
    return waitFor(
      async () => {
        last = await this.boot(instanceUuid);
        if (last?.outcome === 'failed') throw new Error(`boot failed: ${last.error ?? ''}`);
        return last?.outcome === 'ready' ? last : null;
      },
      timeoutMs,
      () => `the guest is not ready (${last?.how ?? '?'}, ${last?.outcome ?? '?'}, ${last?.why ?? ''})`,
    );
  }

  /** Waits for a line of the log, of the last ones, that has all these words. */
  async line(...words: readonly string[]): Promise<string> {
    return waitFor(
      () =>
        Promise.resolve(
          this.output.split('\n').find((line) => words.every((word) => line.includes(word))) ?? null,
        ),
      10_000,
      () => `no line of the log has ${words.join(' and ')}`,
    );
  }

  /** Asks the service to stop and waits for its end. */
  async stop(): Promise<void> {
    await this.end('SIGTERM');
  }

  /** The plug is pulled. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    this.child.kill(signal);
    await this.ended();
  }
}
