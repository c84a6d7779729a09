/**
 * A RabbitMQ of a test's own: random ports on loopback, own state, own epmd. Runs as root, without systemd, beside any other
 * broker of the machine.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Of Debian's package; its wrapper in /usr/sbin would change the user and the log files. */
const PROGRAMS = '/usr/lib/rabbitmq/bin';
const START_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 30_000;

export class PrivateRabbitmq {
  private broker: ChildProcess | undefined;
  private epmd: ChildProcess | undefined;

  private constructor(
    private readonly directory: string,
    readonly port: number,
    private readonly environment: NodeJS.ProcessEnv,
  ) {}

  static async start(): Promise<PrivateRabbitmq> {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-rabbitmq-'));
    const [port = 0, distributionPort = 0, epmdPort = 0] = await freePorts(3);
    await writeFile(join(directory, 'rabbitmq.conf'), 'loopback_users = none\nlog.console = false\n');
    await writeFile(join(directory, 'enabled_plugins'), '[].\n');
    const environment = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      LANG: 'C.UTF-8',
      HOME: directory,
      ERL_EPMD_ADDRESS: '127.0.0.1',
      ERL_EPMD_PORT: String(epmdPort),
      RABBITMQ_NODENAME: `test-${port}@localhost`,
      RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
      RABBITMQ_NODE_PORT: String(port),
      RABBITMQ_DIST_PORT: String(distributionPort),
      RABBITMQ_MNESIA_BASE: join(directory, 'mnesia'),
      RABBITMQ_LOG_BASE: join(directory, 'log'),
      RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
      RABBITMQ_CONF_ENV_FILE: join(directory, 'none'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
      RABBITMQ_SERVER_ERL_ARGS: '+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none',
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
      // Makes the script become the broker instead of its parent.
      RUNNING_UNDER_SYSTEMD: 'true',
    };
    const rabbit = new PrivateRabbitmq(directory, port, environment);
    try {
      rabbit.epmd = spawn('epmd', ['-address', '127.0.0.1', '-port', String(epmdPort)], {
        env: environment,
        stdio: 'ignore',
      });
      await rabbit.startBroker();
    } catch (error) {
      await rabbit.stop();
      throw error;
    }
    return rabbit;
  }

  get url(): string {
    return `rabbit://guest:guest@127.0.0.1:${this.port}/`;
  }

  /** Starts the broker again, on the same port, with what its disk has: nothing that is not durable. */
  async startBroker(): Promise<void> {
    const broker = spawn(`${PROGRAMS}/rabbitmq-server`, {
      env: this.environment,
      cwd: this.directory,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.broker = broker;
    const said: string[] = [];
    broker.stderr.on('data', (chunk: Buffer) => said.push(chunk.toString()));
    const timer = setTimeout(() => broker.kill('SIGKILL'), START_TIMEOUT_MS);
    try {
      for await (const line of createInterface(broker.stdout)) {
        said.push(line);
        if (line.includes('completed with')) {
          broker.stdout.resume();
          return;
        }
      }
      throw new Error(`RabbitMQ did not start: ${said.join('\n')}`);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the broker alone: in good order, or as a power cut would. */
  async stopBroker(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const { broker } = this;
    this.broker = undefined;
    await end(broker, signal);
  }

  async restartBroker(): Promise<void> {
    await this.stopBroker();
    await this.startBroker();
  }

  /** Stops the broker's answers without closing its sockets. */
  freeze(frozen: boolean): void {
    this.broker?.kill(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  /** A table of `rabbitmqctl`, without its head: rows of columns. */
  async list(command: string, ...columns: readonly string[]): Promise<string[][]> {
    const { stdout } = await run(`${PROGRAMS}/rabbitmqctl`, ['-q', command, ...columns], {
      env: this.environment,
      timeout: 30_000,
    });
    return stdout
      .split('\n')
      .slice(1)
      .filter((line) => line !== '')
      .map((line) => line.split('\t'));
  }

  /** Ends everything and removes its files. */
  async stop(): Promise<void> {
    await this.stopBroker('SIGKILL');
    await end(this.epmd, 'SIGTERM');
    await rm(this.directory, { recursive: true, force: true });
  }
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGCONT');
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await exited;
  clearTimeout(timer);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
