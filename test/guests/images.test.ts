/**
 * Images as providers make them, each baked and started on a host of its own: three releases of Debian, each way to
 * configure a network, XFS, without an agent, without cloud-init. What a server is told by its config drive, or has from
 * the metadata service without one, is compared with what its guest says, and with what the image's own tools believe.
 *
 * Takes minutes for each image under emulation, so it is a stage of its own: `npm test -- guests`.
 */
import { execFile } from 'node:child_process';
import { access, copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { InstanceSpec, SpawnRequest } from '../../drivers/driver';
import { hasSet, readSet, type BakedSet } from '../bench/corpus';
import { mostVcpus } from '../bench/growing-vcpus';
import { until } from '../functional/support/until';
import { addressOf, GATEWAY, hostnameOf, reportOf, UvmHost } from '../functional/support/uvm-host';
import { serveMetadata } from './metadata-service';
import { UserKey } from './shell';

const run = promisify(execFile);
const BUILDER = join(__dirname, '../../devstack/images/debian');
const IMAGES = join(process.env['PREBAKE_CLOUD'] ?? '/srv/prebake-cloud', 'images');
/** What `npm run bench -- corpus --keep DIR` left in this directory is not baked again. */
const KEPT = process.env['PREBAKE_KEPT'];
const BASE_MEMORY_MB = 512;
const TIMEOUT_MS = 1_800_000;
const SUBNET = { dns: ['192.0.2.53'], route: { to: '198.51.100.0/24', via: '10.77.0.254' } } as const;
const UPSTREAM_ROUTES = [`default via ${GATEWAY}`, `${SUBNET.route.to} via ${SUBNET.route.via}`];

/** For what a guest does by itself once it is there. */
const SETTLE_TIMEOUT_MS = 600_000;

type NetworkTool = 'netplan' | 'networkd' | 'ifupdown';

const BAKED: readonly (readonly [image: string, tool: NetworkTool])[] = [
  ['debian-11', 'ifupdown'],
  ['debian-12', 'netplan'],
  ['debian-12-networkd', 'networkd'],
  ['debian-12-ifupdown', 'ifupdown'],
  ['debian-12-xfs', 'netplan'],
  ['debian-12-noagent', 'netplan'],
  ['debian-13', 'netplan'],
];

/** How a running system has its network configured once more, as by an upgrade of the tool. */
const AGAIN: Readonly<Record<NetworkTool, string>> = {
  netplan: 'netplan apply',
  networkd: 'systemctl restart systemd-networkd',
  ifupdown: 'systemctl restart networking',
};
/** Where cloud-init leaves its network configuration for the tool. */
const WRITTEN: Readonly<Record<NetworkTool, string>> = {
  netplan: '/etc/netplan/50-cloud-init.yaml',
  networkd: '/etc/systemd/network/10-cloud-init-*.network',
  ifupdown: '/etc/network/interfaces.d/50-cloud-init*',
};

/** Says one thing a line, `name=value`; runs as root. */
const FACTS = String.raw`
tell() { echo "$1=$(shift; "$@" 2>/dev/null | tr '\n' ' ' | sed 's/ *$//')"; }
status() { cloud-init status | sed -n 's/^status: //p'; }
errors() { python3 -c 'import json; print(*json.load(open("/run/cloud-init/result.json"))["v1"]["errors"])'; }
source_() { python3 -c 'import json; print(json.load(open("/run/cloud-init/result.json"))["v1"]["datasource"])'; }
addresses() { ip -o address show scope global | awk '{print $4}' | sort; }
routes() { ip route show | awk '$2 == "via" {print $1, $2, $3 ";"}' | sort; }
six() { ip -6 route show default | awk '{print $1, $2, $3}' | sort -u; }
resolvers() { cat /run/systemd/resolve/resolv.conf /etc/resolv.conf | awk '$1 == "nameserver" && $2 != "127.0.0.53" {print $2}' | sort -u; }
networkd() { networkctl --no-legend --no-pager list | awk '$3 == "ether" {print $4 "/" $5}'; }
ifupdown() { ifquery --state | grep -v '^lo=' | wc -l; }
written() { ls $WRITTEN; }
tell release sed -n 's/^VERSION_ID=//p' /etc/os-release
tell cloudversion sh -c 'cloud-init --version 2>&1'
tell cloud status
tell errors errors
tell source source_
tell cloudid cloud-id
tell hostname hostname
tell instance cat /var/lib/cloud/data/instance-id
tell addresses addresses
tell routes routes
tell six six
tell resolvers resolvers
tell networkd networkd
tell ifupdown ifupdown
tell written written
tell userdata cat /var/tmp/user-data-ran
tell failed systemctl --failed --no-legend --plain
tell gate ls -d /run/prebake /run/prebake-seed
tell filesystem findmnt -nro FSTYPE /
tell root sh -c "df -k / | awk 'END {print int(\$2 / 1048576 + 0.5)}'"
`;

type Facts = Readonly<Record<string, string>>;

let key: UserKey;
let host: UvmHost | undefined;
let taken: SpawnRequest['template'] | undefined;

jest.setTimeout(2 * TIMEOUT_MS);

beforeAll(async () => (key = await UserKey.make()));
afterEach(async () => {
  await host?.destroyServers();
  await host?.stop();
  host = undefined;
  taken = undefined;
});
afterAll(async () => await key.remove());

async function startHost(image: string): Promise<UvmHost> {
  const kept = await keptSet(image);
  const file = kept?.imagePath ?? join(IMAGES, `${image}.qcow2`);
  await access(file).catch(async () => await run(BUILDER, [file], { timeout: TIMEOUT_MS }));
  host = await UvmHost.start({
    imageFile: file,
    baseMemoryMb: BASE_MEMORY_MB,
    bakeTimeoutS: TIMEOUT_MS / 1000,
    gateTimeoutMs: TIMEOUT_MS,
    maxVcpus: mostVcpus(image) ?? 4,
  });
  return host;
}

async function keptSet(image: string): Promise<BakedSet | undefined> {
  return KEPT !== undefined && (await hasSet(KEPT, image)) ? await readSet(KEPT, image) : undefined;
}

/** The image's µVM: one that was kept, or a new one. */
async function bakeOrTake(on: UvmHost, image: string): Promise<void> {
  const kept = await keptSet(image);
  if (kept === undefined) {
    await on.baker.bake(on.image);
    return;
  }
  const directory = join(on.place.directory, 'cache/materialised/kept');
  await mkdir(directory, { recursive: true });
  const { ram, disk, state } = kept.files;
  const at = {
    ramPath: join(directory, 'ram'),
    diskDeltaPath: join(directory, 'disk'),
    statePath: join(directory, 'state'),
  };
  await run('cp', ['--sparse=always', ram, at.ramPath], { timeout: TIMEOUT_MS });
  await Promise.all([copyFile(disk, at.diskDeltaPath), copyFile(state, at.statePath)]);
  const { key: uvmKey, platform, memoryMb } = kept.description;
  taken = { uvm: { key: uvmKey, imageId: on.image.id, platform, memoryMb, ...at } };
}

function flavor(image: string): InstanceSpec['flavor'] {
  const vcpus = Math.min(2, mostVcpus(image) ?? 2);
  return { name: 'guest', vcpus, memoryMb: 768, rootGb: 4, ephemeralGb: 0, swapMb: 0, extraSpecs: {} };
}

/** What a server of the host's image is told. Its user data leaves a line each time it runs. */
async function requestOf(
  on: UvmHost,
  image: string,
  configDrive: boolean,
): Promise<{ instance: InstanceSpec; request: SpawnRequest }> {
  const instance = on.server(flavor(image));
  const extras = {
    publicKeys: [key.publicKey],
    configDrive,
    secondNic: configDrive,
    subnet: SUBNET,
    userData: `echo ${instance.uuid} >>/var/tmp/user-data-ran`,
  };
  return {
    instance,
    request: await on.request(instance, taken === undefined ? {} : { template: taken }, extras),
  };
}

async function factsOf(instance: InstanceSpec, tool: NetworkTool): Promise<Facts> {
  const script = `sudo sh -s <<'END'\nWRITTEN='${WRITTEN[tool]}'\n${FACTS}END`;
  const said = await key.run(addressOf(instance), script);
  return Object.fromEntries(
    said.split('\n').map((line) => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
}

/** What the guest has to say of itself and its network. */
function promised(instance: InstanceSpec, tool: NetworkTool, nics: number): Record<string, unknown> {
  const addresses = [`${addressOf(instance)}/24`, ...(nics > 1 ? [`${addressOf(instance, 1)}/64`] : [])];
  const configured = (word: string): string => Array.from({ length: nics }, () => word).join(' ');
  return {
    cloud: 'done',
    errors: '',
    hostname: hostnameOf(instance),
    instance: instance.uuid,
    addresses: [...addresses].sort().join(' '),
    routes: UPSTREAM_ROUTES.map((route) => `${route};`)
      .sort()
      .join(' '),
    six: nics > 1 ? 'default via fd77::1' : '',
    resolvers: SUBNET.dns.join(' '),
    userdata: instance.uuid,
    failed: '',
    gate: '',
    root: '4',
    written: expect.stringMatching(/./),
    ...(tool === 'ifupdown' ? { ifupdown: String(nics) } : { networkd: configured('routable/configured') }),
  };
}

/** Resolves when the guest has what it was promised; fails with the difference. */
async function untilAll(
  instance: InstanceSpec,
  tool: NetworkTool,
  expected: Record<string, unknown>,
): Promise<Facts> {
  return await until(
    'the guest to be as promised',
    async () => {
      const facts = await factsOf(instance, tool);
      expect(facts).toMatchObject(expected);
      return facts;
    },
    SETTLE_TIMEOUT_MS,
  ).catch((error: unknown) => {
    throw error instanceof Error && error.cause instanceof Error ? error.cause : error;
  });
}

/** With a config drive and two NICs; then its network is configured once more by the image's own tool. */
async function checkWithConfigDrive(on: UvmHost, image: string, tool: NetworkTool): Promise<void> {
  const { instance, request } = await requestOf(on, image, true);
  const report = await reportOf(await on.driver.spawn(request));
  expect(report.vcpus).toBe(instance.flavor.vcpus);
  await on.giveBridgeAddress();
  const expected = promised(instance, tool, 2);
  tellFacts(image, await untilAll(instance, tool, expected));
  // The tool was told what it has: nothing changes when it configures the network by itself.
  const again = `${AGAIN[tool]}; touch /run/configured-again`;
  await key.run(addressOf(instance), `sudo systemd-run --collect sh -c '${again}'`);
  await until('the tool', () => key.run(addressOf(instance), 'ls /run/configured-again'), SETTLE_TIMEOUT_MS);
  await untilAll(instance, tool, expected);
  await on.driver.destroy(instance);
}

/** Without a config drive, beside a metadata service; then it boots again, as guests do when their user wants it. */
async function checkWithMetadataService(on: UvmHost, image: string, tool: NetworkTool): Promise<void> {
  const { instance, request } = await requestOf(on, image, false);
  await reportOf(await on.driver.spawn(request));
  await on.giveBridgeAddress();
  const metadata = await serveMetadata(on.bridge, await request.identity);
  try {
    const expected = promised(instance, tool, 1);
    tellFacts(image, await untilAll(instance, tool, expected));
    await key
      .run(addressOf(instance), 'sudo touch /run/before && sudo systemctl reboot')
      .catch(() => 'the connection ends with the boot');
    const bootIsNew = async (): Promise<boolean> =>
      (await key.run(addressOf(instance), '[ -e /run/before ] || echo new')) === 'new';
    await until('the next boot', bootIsNew, TIMEOUT_MS);
    tellFacts(image, await untilAll(instance, tool, expected));
    tellFacts(image, { asked: metadata.asked.join(' ') });
  } finally {
    await metadata.close();
  }
  await on.driver.destroy(instance);
}

function tellFacts(image: string, facts: Facts): void {
  process.stderr.write(`${image}: ${JSON.stringify(facts)}\n`);
}

test.each(BAKED)('%s, configured by %s', async (image, tool) => {
  const on = await startHost(image);
  await bakeOrTake(on, image);
  await checkWithConfigDrive(on, image, tool);
  await checkWithMetadataService(on, image, tool);
});

test('debian-12-nocloudinit is refused with the reason, and its servers boot cold', async () => {
  const on = await startHost('debian-12-nocloudinit');
  const reason = /came to rest/;
  await expect(on.baker.bake(on.image)).rejects.toThrow(reason);
  expect(await on.squirrel.list()).toEqual([]);
  const { instance, request } = await requestOf(on, 'debian-12-nocloudinit', true);
  const outcome = await on.driver.spawn(request);
  expect(outcome).toMatchObject({ how: 'cold', why: expect.stringMatching(reason) as string });
  await until(
    'a login prompt',
    async () => (await on.driver.getConsoleOutput(instance.uuid, null)).includes('login:'),
    TIMEOUT_MS,
  );
});
