/**
 * `npm run demo`, once everything is installed and built: the control plane, the service, an image, its bake, two servers
 * from the µVM and a cold one, side by side. devstack/demo is what makes it runnable from a fresh clone.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { fetchBoots, type ReportedBoot } from '../lib/cli';
import { describeError } from '../lib/exceptions';
import { CLOUD, DemoCloud, DemoError, GuestAccess, NETWORK, ROOT, run, until } from './demo-cloud';
import { type ColdFigures, type DemoServer, type Flavor } from './demo-report';
import { checksOf, figures, formatReport, markMs } from './demo-report';

const HOST = 'prebake';
const IMAGE = 'debian-12';
/** The same bytes, told never to start from a µVM. */
const COLD_IMAGE = 'debian-12-cold';
const FLAVOR: Flavor = { name: 'm1.small', vcpus: 2, memoryMb: 2048, rootGb: 10 };
const KEY_NAME = 'demo';
const SERVERS = ['prebake-demo-1', 'prebake-demo-2'] as const;
const COLD_SERVER = 'prebake-demo-cold';
const STATE = join(CLOUD, 'lib', 'demo');
const CONFIG_FILE = join(CLOUD, 'etc', 'nova-compute.conf');
const SIDECAR_URL = 'http://127.0.0.1:8790';

const coldSchema = z.object({
  measuredAt: z.string(),
  imageHash: z.string(),
  flavor: z.string(),
  activeMs: z.number(),
  runningMs: z.number(),
  readyMs: z.number(),
});

/** One run of the demo. */
class Demo {
  private readonly cloud: DemoCloud;
  private readonly key = join(STATE, 'id_ed25519');

  constructor(
    private readonly options: { readonly fresh: boolean; readonly json: string | undefined },
    private readonly signal: AbortSignal,
  ) {
    this.cloud = new DemoCloud(signal);
  }

  /** @returns whether everything held that was promised */
  async run(): Promise<boolean> {
    const { cloud } = this;
    await this.step('control plane', () => cloud.allInOne('up'));
    // Whatever was running before may be an older build.
    await this.step('prebake-compute', () => cloud.allInOne('restart', 'prebake-compute'));
    await this.step('host known to Nova', async () => {
      await cloud.waitForHost(HOST);
      await cloud.discoverHosts();
    });
    const image = await this.step('image', () => cloud.image(IMAGE));
    const bakeMs = await this.step('bake', () => this.bake(image));
    const access = await this.step('key and network', () => this.prepareAccess());
    await this.step('servers of earlier runs', () => cloud.deleteServers([...SERVERS, COLD_SERVER]));
    const cold = await this.step('cold boot', () => this.coldFigures(image, access));
    const first = await this.step(SERVERS[0], () => this.boot(SERVERS[0], image, access));
    const second = await this.step(SERVERS[1], () => this.boot(SERVERS[1], image, access));
    return this.report([first, second], cold, { bakeMs, access });
  }

  private async step<T>(name: string, work: () => Promise<T>): Promise<T> {
    const begin = performance.now();
    say(`==> ${name}`);
    const result = await work();
    say(`    ${name}: done in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
    return result;
  }

  private async bake(image: string): Promise<number> {
    const args = [join(ROOT, 'dist/lib/cli/main.js'), '--config-file', CONFIG_FILE, 'bake', '--json', image];
    const text = await run(process.execPath, args, {
      timeoutMs: 1_200_000,
      signal: this.signal,
      show: 'errors',
    });
    const uvm = z
      .object({ wasThere: z.boolean(), key: z.string(), bakeMs: z.number() })
      .parse(JSON.parse(text));
    say(`    µVM ${uvm.key.slice(0, 12)}${uvm.wasThere ? ', baked before' : ''}`);
    return uvm.bakeMs;
  }

  private async prepareAccess(): Promise<GuestAccess> {
    await mkdir(STATE, { recursive: true, mode: 0o700 });
    const options = { timeoutMs: 30_000, signal: this.signal };
    await readFile(this.key).catch(() =>
      run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', KEY_NAME, '-f', this.key], options),
    );
    const keys = await this.cloud.openstack('keypair', 'list', '-f', 'value', '-c', 'Name');
    if (keys.split('\n').includes(KEY_NAME)) await this.cloud.openstack('keypair', 'delete', KEY_NAME);
    await this.cloud.openstack('keypair', 'create', '--public-key', `${this.key}.pub`, KEY_NAME);
    const network = await this.cloud.openstack('network', 'show', '-f', 'value', '-c', 'id', NETWORK);
    return new GuestAccess(`qdhcp-${network.trim()}`, this.key, this.signal);
  }

  /** Figures of an earlier run are as good, unless the image or the flavor changed. */
  private async coldFigures(image: string, access: GuestAccess): Promise<ColdFigures> {
    const file = join(STATE, 'cold.json');
    const imageHash = (await this.cloud.imageHash(image)) ?? '';
    if (!this.options.fresh) {
      const text = await readFile(file, 'utf8').catch(() => 'null');
      const stored = coldSchema.safeParse(JSON.parse(text)).data;
      if (stored?.imageHash === imageHash && stored.flavor === FLAVOR.name) {
        say(`    measured ${stored.measuredAt}; --fresh measures again`);
        return stored;
      }
    }
    await this.uploadColdImage(imageHash);
    const server = await this.boot(COLD_SERVER, COLD_IMAGE, access);
    const cold: ColdFigures = {
      measuredAt: new Date().toISOString(),
      imageHash,
      flavor: FLAVOR.name,
      activeMs: markMs(server.boot, 'active') ?? 0,
      runningMs: markMs(server.boot, 'running') ?? 0,
      readyMs: server.sshMs,
    };
    await writeFile(file, `${JSON.stringify(cold, null, 2)}\n`);
    await this.cloud.deleteServers([COLD_SERVER]);
    return cold;
  }

  private async uploadColdImage(imageHash: string): Promise<void> {
    const found = await this.cloud.imageHash(COLD_IMAGE);
    if (found === imageHash) return;
    if (found !== undefined) await this.cloud.openstack('image', 'delete', COLD_IMAGE);
    await this.cloud.openstack(
      ...['image', 'create', '--public', '--disk-format', 'qcow2', '--container-format', 'bare'],
      ...['--property', 'prebake=never', '--file', join(CLOUD, 'images', `${IMAGE}.qcow2`), COLD_IMAGE],
    );
  }

  /** Boots a server the way a user does, and waits until one can log in. */
  private async boot(name: string, image: string, access: GuestAccess): Promise<DemoServer> {
    const create = [
      ...['server', 'create', '--flavor', FLAVOR.name, '--image', image, '--network', NETWORK],
      ...['--config-drive', 'true', '--key-name', KEY_NAME],
    ];
    say(`    openstack ${[...create, name].join(' ')}`);
    // The cloud may have a stock nova-compute as well; this server is for ours.
    const onHost = ['--os-compute-api-version', '2.74', '--host', HOST];
    const id = (
      await this.cloud.openstack(
        ...onHost.slice(0, 2),
        ...create,
        ...onHost.slice(2),
        '-f',
        'value',
        '-c',
        'id',
        name,
      )
    ).trim();
    await this.bootOf(id, (boot) => boot.outcome !== 'building');
    const server = await this.cloud.showServer(id);
    const address = server.addresses[NETWORK]?.[0];
    if (server.status !== 'ACTIVE' || address === undefined) {
      throw new DemoError(
        `${name} is ${server.status}: ${JSON.stringify(server.fault ?? 'it has no address')}`,
      );
    }
    await access.waitForSsh(address, 600_000);
    const answeredAt = Date.now();
    const boot = await this.bootOf(
      id,
      (candidate) => candidate.how === 'cold' || candidate.outcome !== 'active',
    );
    const facts = await access.facts(address);
    return { name, id, address, boot, sshMs: answeredAt - Date.parse(boot.startedAt), facts };
  }

  /** The service's own record of a boot, once it is as far as asked for. */
  private async bootOf(id: string, reached: (boot: ReportedBoot) => boolean): Promise<ReportedBoot> {
    const options = { timeoutMs: 300_000, everyMs: 250, signal: this.signal };
    const boot = await until(`the boot of server ${id}`, options, async () =>
      (await fetchBoots(SIDECAR_URL)).find(
        (candidate) => candidate.instanceUuid === id && reached(candidate),
      ),
    );
    if (boot.outcome === 'failed') throw new DemoError(`server ${id}: ${boot.error ?? 'failed'}`);
    return boot;
  }

  private async report(
    servers: readonly [DemoServer, DemoServer],
    cold: ColdFigures,
    more: { readonly bakeMs: number; readonly access: GuestAccess },
  ): Promise<boolean> {
    const checks = checksOf(servers, cold, FLAVOR);
    say(`\n${formatReport(servers, cold, process.stdout.isTTY ? process.stdout.columns : 100)}\n`);
    for (const check of checks) say(`${check.ok ? 'ok    ' : 'FAILED'}  ${check.what} (${check.found})`);
    if (this.options.json !== undefined) {
      const content = figures(servers, cold, { flavor: FLAVOR, bakeMs: more.bakeMs, checks });
      await writeFile(this.options.json, `${JSON.stringify(content, null, 2)}\n`);
    }
    say(`
The cloud is up, with both servers in it.
  log in to the first     ${more.access.loginCommand(servers[0].address)}
  use the cloud           . ${join(ROOT, 'devstack/openrc')} && openstack server list
  launch another          openstack server create --flavor ${FLAVOR.name} --image ${IMAGE} --network ${NETWORK} \\
                            --config-drive true --key-name ${KEY_NAME} another
  where its time went     node ${join(ROOT, 'dist/lib/cli/main.js')} --config-file ${CONFIG_FILE} boots
  health and metrics      curl ${SIDECAR_URL}/readyz ${SIDECAR_URL}/metrics
  take it all down        ${join(ROOT, 'devstack/all-in-one')} down   (wipe forgets the data as well)`);
    return checks.every((check) => check.ok);
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { json: { type: 'string' }, fresh: { type: 'boolean', default: false } },
  });
  const interrupt = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => interrupt.abort(new Error(name)));
  try {
    const held = await new Demo({ fresh: values.fresh, json: values.json }, interrupt.signal).run();
    process.exitCode = held ? 0 : 1;
  } catch (error) {
    if (interrupt.signal.aborted) {
      process.stderr.write(
        "\ndemo: interrupted. What runs goes on running: 'devstack/all-in-one down' stops it.\n",
      );
      process.exitCode = 130;
      return;
    }
    const message = error instanceof DemoError ? error.message : describeError(error);
    process.stderr.write(`\ndemo: ${message}\n`);
    if (error instanceof DemoError && error.cause !== undefined) {
      process.stderr.write(`  ${describeError(error.cause)}\n`);
    }
    process.stderr.write(`  Logs are in ${join(CLOUD, 'log')}; run it again to go on from here.\n`);
    process.exitCode = 1;
  }
}

void main();
