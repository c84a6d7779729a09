/**
 * A clone is nobody's twin: one Debian image is baked once, and eight servers of eight flavors are started from it. Each
 * tells on its console who it is and what it has; what it must have alone is compared with all others, what it was promised
 * with the promise.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import Table from 'cli-table3';
import type { FlavorSpec, InstanceSpec } from '../../drivers/driver';
import type { UvmManifest } from '../../lib/squirrel';
import { until } from './support/until';
import { addressOf, hostnameOf, macOf, reportOf, UvmHost, type ServerExtras } from './support/uvm-host';

const run = promisify(execFile);
const BASE_MEMORY_MB = 512;
const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const WHO_TIMEOUT_MS = 400_000;
/** As many as there are processors to emulate them. */
const AT_ONCE = 2;
const DAY_MS = 24 * 60 * 60_000;

/** What a guest tells of itself besides what every test guest tells. */
const TELL = String.raw`
  tell() { echo "WHO $1=$(shift; "$@" 2>/dev/null | tr '\n' ' ' | sed 's/ *$//')"; }
  digest() { [ ! -s "$1" ] || sha256sum "$1" | cut -c 1-32; }
  key() { cut -d ' ' -f 2 "/etc/ssh/ssh_host_$1_key.pub"; }
  journals() { ls /var/log/journal /run/log/journal | grep -E '^[0-9a-f]{32}$'; }
  disks() { lsblk -bdnro NAME,SIZE,RO | awk '$3 == 0 && $1 != "vda" {print $1 ":" $2}'; }
  addresses() { ip -o address show scope global | awk '{print $4}' | sort; }
  keys_of_user() { cat /home/debian/.ssh/authorized_keys; }
  carriers() { cat /sys/class/net/e*/carrier; }
  mounted() { findmnt -nro TARGET /dev/vdb; }
  tell etchostname cat /etc/hostname
  tell dbus cat /var/lib/dbus/machine-id
  tell ed25519 key ed25519
  tell ecdsa key ecdsa
  tell uuid cat /proc/sys/kernel/random/uuid
  tell seed digest /var/lib/systemd/random-seed
  tell secret digest /var/lib/systemd/credential.secret
  tell instance cat /var/lib/cloud/data/instance-id
  tell link readlink /var/lib/cloud/instance
  tell journals journals
  tell python python3 -c 'import random, uuid; print(random.random(), uuid.uuid4())'
  tell bash bash -c 'echo $RANDOM$RANDOM$RANDOM'
  tell mktemp mktemp -u
  tell invocation systemctl show -P InvocationID systemd-journald.service
  tell boot cat /proc/sys/kernel/random/boot_id
  tell addresses addresses
  tell keys keys_of_user
  tell disks disks
  tell carriers carriers
  tell swap awk 'NR > 1 {print $1}' /proc/swaps
  tell ephemeral mounted
  tell time date +%s
  tell personality cat /proc/self/personality
  tell hashseed printenv PYTHONHASHSEED
  tell librarypath printenv LD_LIBRARY_PATH
`;

/** Of these no two servers may have the same. */
const OWN = (
  'hostname machine random uuid ed25519 ecdsa etchostname dbus seed secret instance link journals ' +
  'python bash mktemp invocation macs addresses'
).split(' ');
/** Things that not every image has: nothing is no twin. */
const MAY_BE_MISSING = new Set(['seed', 'secret', 'journals']);

const flavorOf = (vcpus: number, memoryMb: number, rootGb = 3, ephemeralGb = 0, swapMb = 0): FlavorSpec => ({
  name: `m${vcpus}`,
  vcpus,
  memoryMb,
  rootGb,
  ephemeralGb,
  swapMb,
  extraSpecs: {},
});
const FLEET: readonly { readonly flavor: FlavorSpec; readonly extras?: ServerExtras }[] = [
  { flavor: flavorOf(4, 1536, 10) },
  { flavor: flavorOf(1, 512), extras: { configDrive: false } },
  { flavor: flavorOf(1, 1024, 2, 0, 128) },
  { flavor: flavorOf(2, 640, 3, 1), extras: { secondNic: true } },
  { flavor: flavorOf(2, 1024, 4, 1, 256) },
  { flavor: flavorOf(4, 2048, 5, 1, 64), extras: { configDrive: false, secondNic: true } },
  { flavor: flavorOf(8, 8704, 20) },
  { flavor: flavorOf(16, 4096, 100) },
];

type Who = ReadonlyMap<string, string>;

let host: UvmHost;
let manifest: UvmManifest;
let keyDirectory: string;
let userKey: string;

jest.setTimeout(1_800_000);

beforeAll(async () => {
  keyDirectory = await mkdtemp(join(tmpdir(), 'prebake-keys-'));
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'user', '-f', join(keyDirectory, 'id')]);
  userKey = (await readFile(join(keyDirectory, 'id.pub'), 'utf8')).trim();
  host = await UvmHost.start({
    imageFile: 'debian-12.qcow2',
    baseMemoryMb: BASE_MEMORY_MB,
    bakeTimeoutS: 900,
    gateTimeoutMs: 180_000,
    maxVcpus: 16,
    maxMemoryMb: 65_536,
  });
  manifest = await host.baker.bake(host.image);
});
afterEach(async () => {
  jest.restoreAllMocks();
  await host.destroyServers();
});
afterAll(async () => {
  await host.stop();
  await rm(keyDirectory, { recursive: true, force: true });
});

/** Starts a server and returns it once it has told who it is. */
async function start(
  flavor: FlavorSpec,
  extras: ServerExtras = {},
): Promise<{ instance: InstanceSpec; who: Who; problems: string[] }> {
  const instance = host.server(flavor);
  const userData = `${TELL}\necho "WHO userdata=${instance.uuid}"\n${extras.userData ?? ''}`;
  const request = await host.request(instance, {}, { ...extras, publicKeys: [userKey], userData });
  const report = await reportOf(await host.driver.spawn(request));
  const problems = [
    report.vcpus === flavor.vcpus ? '' : `ready with ${report.vcpus} vCPUs`,
    report.rootBytes === flavor.rootGb * GIB ? '' : `ready with a root disk of ${report.rootBytes} bytes`,
    report.memoryMb > flavor.memoryMb * 0.7 ? '' : `ready with ${report.memoryMb} MiB`,
  ];
  const who = await host.whoIs(instance, WHO_TIMEOUT_MS);
  return { instance, who, problems: [...problems, ...broken(instance, who, extras)].filter(Boolean) };
}

/** Which promises to a server were not kept. */
function broken(instance: InstanceSpec, who: Who, { secondNic = false }: ServerExtras): string[] {
  const { flavor, uuid } = instance;
  const numbers = secondNic ? [0, 1] : [0];
  const disks = [
    ...(flavor.ephemeralGb > 0 ? [flavor.ephemeralGb * GIB] : []),
    ...(flavor.swapMb > 0 ? [flavor.swapMb * MIB] : []),
  ];
  const name = (index: number): string => `vd${'bc'.charAt(index)}`;
  const promised: Record<string, string> = {
    hostname: hostnameOf(instance),
    etchostname: hostnameOf(instance),
    cpus: String(flavor.vcpus),
    addresses: numbers.map((number) => `${addressOf(instance, number)}/${number === 0 ? 24 : 64}`).join(' '),
    carriers: numbers.map(() => '1').join(' '),
    instance: uuid,
    link: `/var/lib/cloud/instances/${uuid}`,
    userdata: uuid,
    disks: disks.map((bytes, index) => `${name(index)}:${bytes}`).join(' '),
    swap: flavor.swapMb > 0 ? `/dev/${name(disks.length - 1)}` : '',
    ephemeral: flavor.ephemeralGb > 0 ? '/mnt' : '',
    // The gate is laid out alike in all bakes, what it starts is not.
    personality: '00000000',
    hashseed: '',
    librarypath: '',
  };
  const unkept = Object.entries(promised).flatMap(([item, value]) => {
    const found = who.get(item) ?? '';
    return found === value ? [] : [`${item} is '${found}' instead of '${value}'`];
  });
  // Names of cards, and so their order, are the guest's business.
  const macs = (who.get('macs') ?? '').split(' ').sort().join(' ');
  if (
    macs !==
    numbers
      .map((number) => macOf(instance, number))
      .sort()
      .join(' ')
  )
    unkept.push(`its NICs are ${macs}`);
  if (who.get('keys')?.includes(userKey.split(' ')[1] ?? '?') !== true)
    unkept.push("the user's key is not there");
  const rootMb = Number(who.get('root'));
  // Partition table, journal and inodes take their part.
  if (!(rootMb > flavor.rootGb * 1024 * 0.92)) unkept.push(`the root file system has ${rootMb} MiB`);
  return unkept;
}

/** Items that several servers have the same value of. */
function alike(servers: readonly { readonly who: Who }[]): string[] {
  return OWN.filter((item) => {
    const values = servers.map(({ who }) => who.get(item) ?? '').filter((value) => value !== '');
    const missing = values.length < servers.length && !MAY_BE_MISSING.has(item);
    return missing || new Set(values).size < values.length;
  });
}

function table(servers: readonly { readonly who: Who }[]): string {
  const rows = new Table({
    style: { head: [], border: [] },
    head: ['', ...servers.map((_, index) => `${index + 1}`)],
  });
  for (const item of new Set(servers.flatMap(({ who }) => [...who.keys()]))) {
    rows.push([item, ...servers.map(({ who }) => (who.get(item) ?? '').slice(0, 18))]);
  }
  return rows.toString();
}

/** Runs a command in a server over ssh, as its user, with no host key but its own accepted. */
async function ssh(instance: InstanceSpec, who: Who, command: string): Promise<string> {
  const address = addressOf(instance);
  const knownHosts = join(keyDirectory, `known-${instance.uuid}`);
  await writeFile(knownHosts, `${address} ssh-ed25519 ${who.get('ed25519') ?? ''}\n`);
  const options = {
    UserKnownHostsFile: knownHosts,
    GlobalKnownHostsFile: '/dev/null',
    StrictHostKeyChecking: 'yes',
    HostKeyAlgorithms: 'ssh-ed25519',
    BatchMode: 'yes',
    ConnectTimeout: '60',
  };
  const args = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const { stdout } = await run(
    'ssh',
    ['-F', 'none', '-i', join(keyDirectory, 'id'), ...args, `debian@${address}`, command],
    { timeout: 120_000 },
  );
  return stdout.trim();
}

test('the µVM is small', () => {
  expect(manifest.memoryMb).toBe(BASE_MEMORY_MB);
  expect(manifest.addedBytes).toBeLessThan(80 * MIB);
});

test('eight servers of one µVM share nothing, and have all they were promised', async () => {
  const servers: Awaited<ReturnType<typeof start>>[] = [];
  const rsaKeys = new Set<string>();
  const left = [...FLEET.entries()];
  const lane = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const [index, { flavor, extras }] = next;
      const server = await start(flavor, extras);
      servers[index] = server;
      // A user comes in by ssh, to one with a config drive and to one without.
      if (index < 2) {
        await host.giveBridgeAddress();
        const told = await ssh(server.instance, server.who, 'hostname; sudo -n id -u');
        expect(told).toBe(`${hostnameOf(server.instance)}\n0`);
        // It takes long to make, so it comes last.
        await until(
          'an RSA host key',
          async () => {
            const key = await ssh(server.instance, server.who, 'cat /etc/ssh/ssh_host_rsa_key.pub || true');
            rsaKeys.add(key.split(' ')[1] ?? '');
            return key !== '';
          },
          WHO_TIMEOUT_MS,
        );
      }
      await host.driver.destroy(server.instance);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  const problems = [
    ...servers.flatMap(({ problems }, index) => problems.map((problem) => `server ${index + 1}: ${problem}`)),
    ...alike(servers).map((item) => `not each has its own ${item}`),
  ];
  if (problems.length > 0) throw new Error(`${problems.join('\n')}\n${table(servers)}`);
  rsaKeys.delete('');
  expect(rsaKeys.size).toBe(2);
  // What the documentation says they share, they do: should Linux ever change that, it is out of date.
  expect(new Set(servers.map(({ who }) => who.get('boot'))).size).toBe(1);
});

test('a µVM that was baked six weeks ago wakes up in the present, and nothing misfires', async () => {
  const ageMs = 42 * DAY_MS;
  const now = Date.now.bind(Date);
  jest.spyOn(Date, 'now').mockImplementation(() => now() + ageMs);
  const certificate = await certificateFrom(new Date(Date.now() - DAY_MS), new Date(Date.now() + DAY_MS));
  const userData = String.raw`
  cat >/run/young.pem <<'END'
${certificate}END
  verified() { openssl verify -CAfile /run/young.pem /run/young.pem | sed 's/.*: //'; }
  tell certificate verified
`;
  const { instance, who, problems } = await start(flavorOf(2, 1024), { userData });
  expect(problems).toEqual([]);
  expect(Math.abs(Number(who.get('time')) * 1000 - Date.now())).toBeLessThan(10 * 60_000);
  expect(who.get('certificate')).toBe('OK');
  await host.giveBridgeAddress();
  // The image's timers start last of all, when nobody waits for anything any more.
  let timers = '';
  await until(
    'the timers of the image',
    async () => {
      const enabled = 'systemctl list-unit-files --type=timer --state=enabled --no-legend | cut -d " " -f 1';
      timers = (await ssh(instance, who, enabled)).replace(/\n/g, ' ');
      const states = await ssh(instance, who, `systemctl is-active ${timers} || true`);
      return timers !== '' && states.split('\n').every((state) => state === 'active');
    },
    WHO_TIMEOUT_MS,
  );
  const shown = await ssh(instance, who, `systemctl show --no-pager -p Id,LastTriggerUSec ${timers}`);
  const blocks = shown.split('\n\n').map((block) => new Map(block.split('\n').map(assignment)));
  expect(blocks.map((block) => block.get('Id'))).toEqual(
    expect.arrayContaining(['apt-daily.timer', 'fstrim.timer', 'logrotate.timer']),
  );
  // What is due counts from now, not from the bake.
  const early = blocks.filter((block) => {
    const [, day, time] = /^\w+ (\S+) (\S+) UTC$/.exec(block.get('LastTriggerUSec') ?? '') ?? [];
    return day !== undefined && Math.abs(Date.parse(`${day}T${time}Z`) - Date.now()) > 30 * 60_000;
  });
  expect(early).toEqual([]);
  const ran = await ssh(
    instance,
    who,
    `systemctl show -p Id,ExecMainStartTimestamp $(systemctl show -P Triggers ${timers})`,
  );
  const jobs = ran.split('\n\n').map((block) => new Map(block.split('\n').map(assignment)));
  expect(jobs.length).toBeGreaterThan(4);
  expect(jobs.filter((job) => job.get('ExecMainStartTimestamp') !== '')).toEqual([]);
  expect(await ssh(instance, who, 'systemctl --failed --no-legend --plain')).toBe('');
});

function assignment(line: string): [string, string] {
  const at = line.indexOf('=');
  return [line.slice(0, at), line.slice(at + 1)];
}

/** A self-signed certificate that is valid between two dates. */
async function certificateFrom(begin: Date, end: Date): Promise<string> {
  const path = (name: string): string => join(keyDirectory, name);
  const when = (date: Date): string => date.toISOString().replace(/[-:T]|\.\d+/g, '');
  await run('openssl', [
    ...['req', '-new', '-newkey', 'ed25519', '-nodes', '-subj', '/CN=young'],
    ...['-keyout', path('young.key'), '-out', path('young.csr')],
  ]);
  await Promise.all([writeFile(path('index.txt'), ''), writeFile(path('serial'), '01\n')]);
  await writeFile(
    path('ca.conf'),
    `[ca]\ndefault_ca=young\n[young]\ndatabase=${path('index.txt')}\nserial=${path('serial')}\nnew_certs_dir=${keyDirectory}\n` +
      'default_md=default\npolicy=any\nx509_extensions=ext\n[any]\ncommonName=supplied\n[ext]\nbasicConstraints=CA:TRUE\n',
  );
  await run('openssl', [
    ...['ca', '-batch', '-notext', '-selfsign', '-config', path('ca.conf'), '-keyfile', path('young.key')],
    ...[
      '-in',
      path('young.csr'),
      '-out',
      path('young.pem'),
      '-startdate',
      when(begin),
      '-enddate',
      when(end),
    ],
  ]);
  return await readFile(path('young.pem'), 'utf8');
}
