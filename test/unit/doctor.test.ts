/** The doctor: each check against a host with a planted fault, which it must find and name the fix of. */
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { stripVTControlCharacters } from 'node:util';
import pino from 'pino';
import type { BakeFailure } from '../../lib/bake';
import { type Examination, doctor } from '../../lib/cli/doctor-command';
import { CommandError, Output } from '../../lib/cli/output';
import {
  amqpCheck,
  cacheCheck,
  type Check,
  clockCheck,
  conductorCheck,
  discoveryCheck,
  diskCheck,
  examine,
  fail,
  glanceCheck,
  hookCheck,
  type Hypervisor,
  keystoneCheck,
  kvmCheck,
  libvirtCheck,
  type Machine,
  memoryCheck,
  neutronAgentCheck,
  ok,
  type OpenLogin,
  placementCheck,
  programsCheck,
  zstdCheck,
  qemuCheck,
  qemuUserCheck,
  rootCheck,
  serviceCheck,
  thisMachine,
  warn,
} from '../../lib/doctor';
import { KeystoneSession } from '../../lib/openstack';
import type { CacheEntry } from '../../lib/squirrel';
import { LocalCloud, type Answer, type Seen } from '../support/local-cloud';

const GIB = 1024 ** 3;
const HOOK = '/etc/libvirt/hooks/qemu.d/prebake';
const EXPECTED = {
  instancesPath: '/instances',
  cacheDirectory: '/cache',
  reservedHostMemoryMb: 512,
  baseMemoryMb: 512,
};
const healthyMachine: Machine = {
  uid: () => 0,
  readText: () => Promise.resolve('#!/bin/sh\n'),
  list: () => Promise.resolve(['prebake']),
  program: (path) => Promise.resolve(path === HOOK ? { executable: true, changedAtMs: 1000 } : null),
  which: (name) => Promise.resolve(`/usr/bin/${name}`),
  space: () => Promise.resolve({ freeBytes: 100 * GIB, totalBytes: 200 * GIB, writable: true }),
  memory: () => Promise.resolve({ totalMb: 8192, availableMb: 4096 }),
  processes: () => Promise.resolve([{ pid: 1, startedAtMs: 9000 }]),
};
const machine = (faults: Partial<Machine>): Machine => ({ ...healthyMachine, ...faults });
const hypervisor = (faults: Partial<Hypervisor> = {}): Hypervisor => ({
  versions: () => Promise.resolve({ libvirt: 12_008_000, qemu: 11_001_000 }),
  probeKvm: () => Promise.resolve(),
  kvmDevice: () => Promise.resolve('opens'),
  confinement: () => Promise.resolve({ uid: 0, models: [] }),
  ...faults,
});

const INCLUDE = '# of this site\ninclude <abstractions/prebake>\n';
const qemuUser = (
  confinement: { uid?: number; models?: readonly string[] } = {},
  rules: { local?: string; own?: string } = {},
): Check =>
  qemuUserCheck(
    hypervisor({ confinement: () => Promise.resolve({ uid: 0, models: [], ...confinement }) }),
    machine({
      readText: (path) => Promise.resolve((path.includes('/local/') ? rules.local : rules.own) ?? ''),
    }),
    EXPECTED.cacheDirectory,
  );

async function run(check: Check): Promise<{ state: string; detail: string; fix: string | null }> {
  const needed = (check.needs ?? []).map((name): Check => ({
    name,
    fix: '',
    run: () => Promise.resolve(ok('')),
  }));
  const { checks } = await examine([...needed, check], new AbortController().signal);
  const { state, detail, fix } = checks.at(-1) ?? { state: 'none', detail: '', fix: '' };
  return { state, detail, fix };
}

describe('the machine', () => {
  const checks = (on: Machine): Check[] => [
    rootCheck(on),
    programsCheck(on),
    memoryCheck(on, EXPECTED),
    diskCheck(on, EXPECTED),
    hookCheck(on, '/own/hook'),
  ];

  test('a good one passes every check', async () => {
    const report = await examine(checks(healthyMachine), new AbortController().signal);
    expect(report.checks.map(({ name, state }) => `${name} ${state}`)).toEqual([
      'root ok',
      'programs ok',
      'memory ok',
      'disk ok',
      'libvirt-hook ok',
    ]);
    expect(report.healthy).toBe(true);
  });

  test('libzstd has to be there', async () => {
    expect(await run(zstdCheck(() => '1.5.4'))).toMatchObject({ state: 'ok', detail: 'libzstd 1.5.4' });
    const without = zstdCheck(() => {
      throw new Error('libzstd.so.1: cannot open shared object file');
    });
    expect(await run(without)).toMatchObject({ state: 'fail', fix: 'apt-get install libzstd1' });
  });

  test.each<[string, Partial<Machine>, string, string, RegExp, RegExp]>([
    ['another user', { uid: () => 1000 }, 'root', 'fail', /user 1000/, /as root/],
    [
      'no genisoimage',
      { which: (name) => Promise.resolve(name === 'genisoimage' ? null : '/x') },
      'programs',
      'fail',
      /not installed: genisoimage$/,
      /^apt-get install genisoimage$/,
    ],
    [
      'too little memory',
      { memory: () => Promise.resolve({ totalMb: 1000, availableMb: 900 }) },
      'memory',
      'fail',
      /512 MiB of one µVM/,
      /base_memory_mb/,
    ],
    [
      'memory in use',
      { memory: () => Promise.resolve({ totalMb: 8000, availableMb: 900 }) },
      'memory',
      'warn',
      /900 MiB of 8000/,
      /free memory/,
    ],
    [
      'a full cache disk',
      {
        space: (path) =>
          Promise.resolve({
            freeBytes: path === '/cache' ? GIB : 50 * GIB,
            totalBytes: 100 * GIB,
            writable: true,
          }),
      },
      'disk',
      'fail',
      /1.0 GiB free at \/cache/,
      /cache_directory/,
    ],
    [
      'a disk that became read-only',
      {
        space: (path) =>
          Promise.resolve({ freeBytes: 50 * GIB, totalBytes: 100 * GIB, writable: path !== '/cache' }),
      },
      'disk',
      'fail',
      /^nothing can be written to \/cache \(\[prebake\] cache_directory\)$/,
      /remount,rw/,
    ],
    [
      'a disk that fills',
      { space: () => Promise.resolve({ freeBytes: 5 * GIB, totalBytes: 9 * GIB, writable: true }) },
      'disk',
      'warn',
      /5.0 GiB/,
      /free space/,
    ],
    ['no hook', { program: () => Promise.resolve(null) }, 'libvirt-hook', 'fail', /not there/, /install -D/],
    [
      'a hook that cannot run',
      { program: () => Promise.resolve({ executable: false, changedAtMs: 0 }) },
      'libvirt-hook',
      'fail',
      /not executable/,
      /install -D -m 755/,
    ],
    [
      'the hook of another version',
      { readText: (path) => Promise.resolve(path) },
      'libvirt-hook',
      'warn',
      /not the one of this version/,
      /\/own\/hook/,
    ],
    [
      'a hook that came after libvirtd',
      { processes: () => Promise.resolve([{ pid: 1, startedAtMs: -9000 }]) },
      'libvirt-hook',
      'fail',
      /does not know it/,
      /restart libvirtd/,
    ],
  ])('%s', async (_fault, faults, name, state, detail, fix) => {
    const check = checks(machine(faults)).find((candidate) => candidate.name === name);
    const found = await run(check ?? rootCheck(healthyMachine));
    expect(found.state).toBe(state);
    expect(found.detail).toMatch(detail);
    expect(found.fix).toMatch(fix);
  });

  test('an older hook beside it has libvirtd look into the directory', async () => {
    const on = machine({
      list: () => Promise.resolve(['other', 'prebake']),
      program: (path) =>
        Promise.resolve({ executable: true, changedAtMs: path.endsWith('other') ? 0 : 60_000 }),
    });
    expect(await run(hookCheck(on, '/own/hook'))).toMatchObject({ state: 'ok' });
  });

  test('the real one can be looked at', async () => {
    expect((await thisMachine.memory()).totalMb).toBeGreaterThan(0);
    expect((await thisMachine.space('/no/such/place')).totalBytes).toBeGreaterThan(0);
    expect(await thisMachine.which('sh')).toMatch(/^\/.*\/sh$/);
    expect(await thisMachine.which('no-such-program')).toBeNull();
    expect(await thisMachine.list('/no/such/place')).toEqual([]);
    expect(await thisMachine.program('/no/such/place')).toBeNull();
    const name = (await thisMachine.readText('/proc/self/comm')).trim();
    const self = (await thisMachine.processes([name])).find(({ pid }) => pid === process.pid);
    const startedMs = Date.now() - process.uptime() * 1000;
    expect(Math.abs((self?.startedAtMs ?? 0) - startedMs)).toBeLessThan(10_000);
  });
});

describe('the hypervisor', () => {
  test.each<[string, Check, string, RegExp, RegExp | null]>([
    ['new', qemuCheck(hypervisor()), 'ok', /^QEMU 11\.1\.0$/, null],
    [
      'what old versions cost',
      qemuCheck(hypervisor({ versions: () => Promise.resolve({ libvirt: 9_000_000, qemu: 7_002_022 }) })),
      'ok',
      /^QEMU 7\.2\.22; .*0\.3 s/,
      null,
    ],
    [
      'libvirt too old',
      libvirtCheck(hypervisor({ versions: () => Promise.resolve({ libvirt: 8_000_000, qemu: 0 }) })),
      'fail',
      /8\.0\.0 is too old/,
      /9\.0\.0 or newer/,
    ],
    [
      'QEMU too old',
      qemuCheck(hypervisor({ versions: () => Promise.resolve({ libvirt: 9_000_000, qemu: 6_002_000 }) })),
      'fail',
      /6\.2\.0 is too old/,
      /7\.2\.0 or newer/,
    ],
    [
      'libvirtd away',
      libvirtCheck(hypervisor({ versions: () => Promise.reject(new Error('no libvirtd')) })),
      'fail',
      /no libvirtd/,
      /systemctl start libvirtd/,
    ],
    ['QEMU as root', qemuUser(), 'ok', /as root/, null],
    ['QEMU as another user', qemuUser({ uid: 64055 }), 'ok', /user 64055: each clone gets a copy/, null],
    ['QEMU confined by SELinux', qemuUser({ models: ['selinux'] }), 'warn', /selinux/, /security_driver/],
    [
      'QEMU confined by AppArmor without rules',
      qemuUser({ models: ['apparmor'] }, {}),
      'warn',
      /AppArmor and may not open/,
      /^echo 'include <abstractions\/prebake>' >>\/etc\/apparmor\.d\/local\/abstractions\/libvirt-qemu$/,
    ],
    [
      'AppArmor with rules for another cache',
      qemuUser(
        { models: ['apparmor'] },
        { local: INCLUDE, own: '  # /cache/\n  /elsewhere/bakes/** rwk,\n' },
      ),
      'warn',
      /AppArmor and may not open/,
      /\/etc\/apparmor\.d\/abstractions\/prebake the cache_directory \/cache/,
    ],
    [
      'AppArmor with rules for µVMs',
      qemuUser({ models: ['apparmor'] }, { local: INCLUDE, own: '  /cache/bakes/** rwk,\n' }),
      'ok',
      /AppArmor with rules/,
      null,
    ],
    ['KVM works', kvmCheck(hypervisor(), 'kvm'), 'ok', /a guest ran/, null],
    ['KVM unused', kvmCheck(hypervisor(), 'qemu'), 'warn', /ten times slower/, /virt_type = kvm/],
    [
      'no KVM',
      kvmCheck(hypervisor({ kvmDevice: () => Promise.resolve('missing') }), 'kvm'),
      'fail',
      /no \/dev\/kvm/,
      /virtualisation/,
    ],
    [
      'KVM opens, but runs nothing',
      kvmCheck(hypervisor({ probeKvm: () => Promise.reject(new Error('KVM internal error')) }), 'kvm'),
      'fail',
      /\/dev\/kvm opens, but no guest runs: KVM internal error/,
      /virt_type = qemu/,
    ],
    [
      'emulation on purpose',
      kvmCheck(hypervisor({ kvmDevice: () => Promise.resolve('refused') }), 'qemu'),
      'ok',
      /cannot be opened/,
      null,
    ],
  ])('%s', async (_case, check, state, detail, fix) => {
    const found = await run(check);
    expect(found.state).toBe(state);
    expect(found.detail).toMatch(detail);
    if (fix === null) expect(found.fix).toBeNull();
    else expect(found.fix).toMatch(fix);
  });
});

describe('the message queue', () => {
  const plain = () => Promise.resolve(undefined);

  test('nothing listens', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as AddressInfo;
    holder.close();
    await once(holder, 'close');
    const found = await run(amqpCheck(`rabbit://nova:pa55word@127.0.0.1:${port}/nova`, plain));
    expect(found).toMatchObject({ state: 'fail', fix: expect.stringContaining('start RabbitMQ') as string });
    expect(found.detail).toContain(`127.0.0.1:${port}: `);
    expect(JSON.stringify(found)).not.toContain('pa55word');
  });

  test('a URL that is none', async () => {
    const found = await run(amqpCheck('rabbit://[', plain));
    expect(found).toMatchObject({
      state: 'fail',
      fix: expect.stringContaining('transport_url') as string,
    });
  });

  test('nova-conductor is silent; and it is not asked where there is no broker', async () => {
    const check = conductorCheck(() => Promise.reject(new Error('no answer')));
    expect(await run(check)).toMatchObject({ state: 'fail', detail: 'no answer' });
    const broken: Check = { name: 'amqp', fix: 'f', run: () => Promise.resolve(fail('gone', 'f')) };
    const { checks } = await examine([broken, check], new AbortController().signal);
    expect(checks[1]).toMatchObject({ state: 'skip', detail: 'needs amqp, see there' });
  });
});

describe('the cloud', () => {
  const agent = { agent_type: 'Linux bridge agent', host: 'compute-1', alive: true, admin_state_up: true };
  const service = { host: 'compute-1', status: 'enabled', state: 'up', disabled_reason: null };
  const world = {
    roles: ['service', 'member'],
    date: (): string | undefined => new Date().toUTCString(),
    refuse: false,
    agents: [agent],
    services: [service] as object[],
    hypervisors: ['compute-1'],
    placement: 200,
  };
  let cloud: LocalCloud;
  let session: KeystoneSession;
  let now: typeof world;
  beforeEach(async () => {
    now = structuredClone({ ...world, date: undefined }) as unknown as typeof world;
    now.date = world.date;
    cloud = await LocalCloud.start(answer);
    session = new KeystoneSession(
      { authUrl: cloud.url, username: 'nova', password: 'x', projectName: 'service' },
      pino({ level: 'silent' }),
    );
  });
  afterEach(async () => {
    session.close();
    await cloud.stop();
  });

  function answer({ method, path }: Seen): Answer | undefined {
    if (path === '/v3/auth/tokens' && now.refuse) return { status: 401, body: { error: { message: 'no' } } };
    if (path === '/v3/auth/tokens' && method === 'GET') {
      const token = {
        user: { name: 'nova' },
        project: { name: 'service' },
        roles: now.roles.map((name) => ({ name })),
      };
      return (response) => {
        response.sendDate = false;
        const date = now.date();
        response.writeHead(200, {
          'Content-Type': 'application/json',
          ...(date === undefined ? {} : { Date: date }),
        });
        response.end(JSON.stringify({ token }));
      };
    }
    if (path === '/v2.0/agents') return { status: 200, body: { agents: now.agents } };
    if (path === '/v2/images') return { status: 200, body: { images: [] } };
    if (path === '/allocation_candidates') return { status: now.placement, body: {} };
    if (path === '/two/v2.1/os-services') return { status: 200, body: { services: now.services } };
    if (path === '/two/v2.1/os-hypervisors/detail') {
      const hypervisors = now.hypervisors.map((host) => ({ service: { host } }));
      return { status: 200, body: { hypervisors } };
    }
    return undefined;
  }

  const login: OpenLogin = () => ({
    section: '[placement]',
    session,
    authUrl: cloud.url,
    endpoint: {},
  });
  const agentCheck = (): Check => neutronAgentCheck(login, 'compute-1', 'k');
  const discovery = (): Check => discoveryCheck(login, 'compute-1', 'k');

  test('a good one passes every check', async () => {
    const checks = [
      keystoneCheck('k', login),
      clockCheck(login, 'k'),
      placementCheck(login, 'k'),
      agentCheck(),
      glanceCheck(login, 'k'),
      discovery(),
    ];
    const report = await examine(checks, new AbortController().signal);
    expect(report.checks.map(({ state, detail }) => `${state}: ${detail}`)).toEqual([
      'ok: [placement]: user nova in project service with roles service, member',
      "ok: agrees with Keystone's",
      'ok: answers',
      'ok: the Linux bridge agent of host compute-1 is alive',
      'ok: answers',
      'ok: host compute-1 is registered, mapped, enabled and up',
    ]);
  });

  test.each<[string, (faults: typeof world) => void, () => Check, string, RegExp, RegExp]>([
    [
      'a wrong password',
      (w) => (w.refuse = true),
      () => keystoneCheck('k', login),
      'fail',
      /refuses/,
      /password/,
    ],
    [
      'no role',
      (w) => (w.roles = ['member']),
      () => keystoneCheck('k', login),
      'fail',
      /needs admin or service/,
      /^openstack role add --user nova --project service admin$/,
    ],
    [
      'a role too few for private images',
      () => undefined,
      () => keystoneCheck('k', login, { roles: ['admin'], otherwise: 'private images are out of reach' }),
      'warn',
      /without admin private images/,
      /role add/,
    ],
    [
      'a clock an hour behind',
      (w) => (w.date = () => new Date(Date.now() + 3_600_000).toUTCString()),
      () => clockCheck(login, 'k'),
      'fail',
      /3\d{3}\.\d s behind/,
      /chrony/,
    ],
    [
      'a clock ten seconds ahead',
      (w) => (w.date = () => new Date(Date.now() - 10_000).toUTCString()),
      () => clockCheck(login, 'k'),
      'warn',
      /s ahead of/,
      /chrony/,
    ],
    [
      'Placement refuses',
      (w) => (w.placement = 403),
      () => placementCheck(login, 'k'),
      'fail',
      /403/,
      /role admin/,
    ],
    ['no L2 agent', (w) => (w.agents = []), agentCheck, 'fail', /no L2 agent/, /start neutron-linuxbridge/],
    [
      'an L2 agent by another name',
      (w) => (w.agents = [{ ...agent, host: 'compute-1.example.org' }]),
      agentCheck,
      'fail',
      /'compute-1.example.org'/,
      /same name/,
    ],
    [
      'a dead L2 agent',
      (w) => (w.agents = [{ ...agent, alive: false }]),
      agentCheck,
      'fail',
      /no sign of life/,
      /restart neutron-linuxbridge-agent/,
    ],
    [
      'another kind of L2 agent',
      (w) => (w.agents = [{ ...agent, agent_type: 'Open vSwitch agent' }]),
      agentCheck,
      'fail',
      /Open vSwitch agent/,
      /Linux bridge/,
    ],
    ['an unknown host', (w) => (w.services = []), discovery, 'warn', /no compute service/, /discover_hosts/],
    ['an unmapped host', (w) => (w.hypervisors = []), discovery, 'fail', /not mapped/, /discover_hosts/],
    [
      'a disabled host',
      (w) => (w.services = [{ ...service, status: 'disabled', disabled_reason: 'repairs' }]),
      discovery,
      'warn',
      /disabled \(repairs\)/,
      /--enable compute-1/,
    ],
  ])('%s', async (_fault, plant, check, state, detail, fix) => {
    plant(now);
    const found = await run(check());
    expect(found.state).toBe(state);
    expect(found.detail).toMatch(detail);
    expect(found.fix).toMatch(fix);
  });

  test('a service that is not in the catalogue', async () => {
    const elsewhere: OpenLogin = () => ({ ...login(), endpoint: { regionName: 'Mars' } });
    expect(await run(glanceCheck(elsewhere, 'k'))).toMatchObject({
      state: 'fail',
      detail: 'The catalogue has no internal or public endpoint of service type image in region Mars',
      fix: expect.stringContaining('region_name') as string,
    });
  });
});

describe('the cache', () => {
  const aside: CacheEntry = {
    state: 'quarantined',
    key: 'ab'.repeat(32),
    reason: 'page 7 differs',
    since: '',
    manifest: { image: { id: 'image-1' } } as Extract<CacheEntry, { state: 'quarantined' }>['manifest'],
  };
  let failures: BakeFailure[] = [];
  beforeEach(() => (failures = []));
  const holding = (...entries: CacheEntry[]): Check =>
    cacheCheck(healthyMachine, '/cache', () =>
      Promise.resolve({
        list: () => Promise.resolve(entries),
        failures: () => Promise.resolve(failures),
        close: () => Promise.resolve(),
      }),
    );

  test('is not made by looking at it', async () => {
    const open = jest.fn(() => Promise.reject(new Error('opened')));
    const check = cacheCheck(machine({ list: () => Promise.resolve([]) }), '/cache', open);
    expect(await run(check)).toMatchObject({ state: 'ok' });
    expect(open).not.toHaveBeenCalled();
  });

  test('a µVM in quarantine', async () => {
    expect(await run(holding(aside))).toMatchObject({
      state: 'warn',
      detail: '0 of 1 µVMs in /cache are offered; abababababab is quarantined: page 7 differs',
      fix: 'prebake bake image-1',
    });
  });

  test('of many images that cannot be baked a few are named', async () => {
    failures = ['1', '2', '3', '4', '5'].map((imageId) => ({
      key: imageId.repeat(64),
      imageId,
      phase: 'boot',
      reason: 'no',
      attempts: 1,
      failedAt: '',
      retryAt: null,
    }));
    expect((await run(holding())).detail).toMatch(/image 3 boots cold: no; and 2 more images$/);
  });

  test('an image that cannot be baked', async () => {
    failures = [
      {
        key: 'ef'.repeat(32),
        imageId: 'image-2',
        phase: 'boot',
        reason: 'the image looks like Windows',
        attempts: 1,
        failedAt: '',
        retryAt: null,
      },
    ];
    expect(await run(holding())).toMatchObject({
      state: 'warn',
      detail: '0 of 0 µVMs in /cache are offered; image image-2 boots cold: the image looks like Windows',
      fix: expect.stringContaining('prebake=never') as string,
    });
  });

  test('a µVM that cannot be read', async () => {
    const entry: CacheEntry = { state: 'unreadable', key: 'cd'.repeat(32), reason: 'not JSON' };
    expect(await run(holding(aside, entry))).toMatchObject({
      state: 'fail',
      fix: expect.stringContaining('prebake cache rm cdcdcdcdcdcd') as string,
    });
  });
});

describe('the service', () => {
  const answering = (status: number, body: unknown): Check =>
    serviceCheck(() => Promise.resolve(new Response(JSON.stringify(body), { status })));

  test('is not running, not ready, ready', async () => {
    expect(await run(serviceCheck(() => Promise.reject(new Error('refused'))))).toMatchObject({
      state: 'warn',
      fix: expect.stringContaining('systemctl start prebake-compute') as string,
    });
    const checks = { amqp: { state: 'down', reason: 'reconnecting' }, libvirt: { state: 'up' } };
    expect(await run(answering(503, { ready: false, checks }))).toMatchObject({
      state: 'fail',
      detail: 'prebake-compute runs, but is not ready: amqp (reconnecting)',
    });
    expect(await run(answering(200, { ready: true, checks: {} }))).toMatchObject({ state: 'ok' });
    expect(await run(answering(401, {}))).toMatchObject({ state: 'fail' });
  });
});

describe('prebake doctor', () => {
  let stdout = '';
  const of = (...checks: Check[]): Examination & { closed: number } => ({
    host: 'compute-1',
    checks,
    closed: 0,
    close() {
      this.closed += 1;
      return Promise.resolve();
    },
  });
  const check = (name: string, finding: ReturnType<typeof ok>): Check => ({
    name,
    fix: 'f',
    run: () => Promise.resolve(finding),
  });
  const examineAndPrint = (examination: Examination, json = false): Promise<void> => {
    stdout = '';
    const output = new Output({ write: (text) => (stdout += text) }, { write: () => true });
    return doctor(examination, output, { json, signal: new AbortController().signal });
  };

  test('prints findings and fixes; warnings are no failure', async () => {
    const examination = of(check('root', ok('as root')), check('disk', warn('little', 'free space')));
    await examineAndPrint(examination);
    expect(stdout).toBe(
      'ok   root  as root\nWARN disk  little\n           fix: free space\n\n1 ok, 1 warnings, 0 failed, 0 not looked at\n',
    );
    expect(examination.closed).toBe(1);
  });

  test('keeps beside the names on a terminal, and paths whole', async () => {
    const path = '/var/lib/nova/instances/with/a/path/that/is/longer/than/a/line';
    stdout = '';
    const terminal = { isTTY: true, columns: 45, write: (text: string) => (stdout += text) };
    const output = new Output(terminal, { write: () => true });
    const examination = of(
      check('disk', warn(`too little is free at ${path} for it`, 'free space there, or elsewhere')),
    );
    await doctor(examination, output, { json: false, signal: new AbortController().signal });
    expect(stripVTControlCharacters(stdout).split('\n').slice(0, 5)).toEqual([
      'WARN disk  too little is free at',
      `           ${path}`,
      '           for it',
      '           fix: free space there, or',
      '                elsewhere',
    ]);
  });

  test.each([
    ['amqp', 1],
    ['configuration', 2],
  ])('a failure of %s ends with code %i', async (name, exitCode) => {
    const failure = examineAndPrint(of(check(name, fail('no', 'do'))), true);
    await expect(failure).rejects.toThrow(CommandError);
    await expect(failure).rejects.toMatchObject({ exitCode, message: `not all is well: ${name}` });
    expect(JSON.parse(stdout)).toMatchObject({
      host: 'compute-1',
      healthy: false,
      counts: { fail: 1 },
      checks: [{ name, state: 'fail', detail: 'no', fix: 'do' }],
    });
  });

  test('a check that hangs is a failure, and secrets stay secret', async () => {
    const hangs: Check = {
      name: 'slow',
      fix: 'f',
      timeoutMs: 20,
      run: () => new Promise(() => undefined),
    };
    const tells = check('tells', ok('rabbit://nova:pa55@host/'));
    const { checks } = await examine([hangs, tells], new AbortController().signal);
    expect(checks).toMatchObject([
      { state: 'fail', detail: 'no answer within 20 ms', fix: 'f' },
      { detail: 'rabbit://nova:***@host/' },
    ]);
  });
});
