/** nova.conf is read by oslo.config's rules, and what is wrong with it is said. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ConfigError,
  configurationReference,
  loadConfig,
  loginFrom,
  takeMutable,
  type Config,
} from '../../lib/config';

const MINIMAL = `
[DEFAULT]
transport_url = rabbit://u:p@h/nova
[placement]
auth_url = http://k:5000
username = placement
password = p1
[neutron]
auth_url = http://k:5000
username = neutron
password = p2
`;

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'prebake-config-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function load(...texts: readonly string[]): Promise<Config> {
  const paths = texts.map((_, index) => join(directory, `nova-${index}.conf`));
  await Promise.all(paths.map((path, index) => writeFile(path, texts[index] ?? '')));
  return loadConfig(paths);
}

async function problemsOf(...texts: readonly string[]): Promise<string[]> {
  const error: unknown = await load(...texts).catch((reason: unknown) => reason);
  if (!(error instanceof ConfigError)) throw new Error('expected a ConfigError', { cause: error });
  return error.message.replaceAll(`${directory}/`, '').split('\n');
}

describe('values', () => {
  test('are those of Nova when nothing is said', async () => {
    const config = await load(MINIMAL);
    expect(config.default).toMatchObject({
      host: hostname(),
      instancesPath: '/var/lib/nova/instances',
      instanceNameTemplate: 'instance-%08x',
      reportInterval: 10,
      cpuAllocationRatio: null,
      initialCpuAllocationRatio: 16,
      vifPluggingIsFatal: true,
      rpcResponseTimeout: 60,
    });
    expect(config.libvirt).toMatchObject({ virtType: 'kvm', cpuMode: null, cpuModels: [] });
    expect(config.prebake).toMatchObject({
      cacheDirectory: '/var/lib/nova/prebake',
      sidecarListen: { host: '127.0.0.1', port: 8790 },
    });
    expect(config.neutron.validInterfaces).toEqual(['internal', 'public']);
    expect(config.osloMessagingRabbit.heartbeatTimeoutThreshold).toBe(60);
  });

  test.each([
    ['spaces and colons', '[DEFAULT]\nhost:  a  \nmy_ip=1.2.3.4', { host: 'a', myIp: '1.2.3.4' }],
    ['comments', '# host = b\n; host = c\n[DEFAULT]\nhost = a\n#host = d', { host: 'a' }],
    ['quotes', '[DEFAULT]\nhost = "a"\nmy_ip = \'x "y\'', { host: 'a', myIp: 'x "y' }],
    ['an equals sign', '[DEFAULT]\nmy_ip = a=b:c', { myIp: 'a=b:c' }],
    ['no comment after a value', '[DEFAULT]\nmy_ip = a # b', { myIp: 'a # b' }],
    ['repetition', '[DEFAULT]\nhost = a\nhost = b', { host: 'b' }],
    ['a section twice', '[DEFAULT]\nhost = a\n[x]\nhost = c\n[DEFAULT]\nmy_ip = b', { host: 'a', myIp: 'b' }],
    ['Windows line ends', '[DEFAULT]\r\nhost = a\r\n', { host: 'a' }],
    [
      'words for true',
      '[DEFAULT]\ndebug = YES\nforce_config_drive = On',
      { debug: true, forceConfigDrive: true },
    ],
    ['words for false', '[DEFAULT]\ndebug = 0\nvif_plugging_is_fatal = off', { vifPluggingIsFatal: false }],
    ['numbers', '[DEFAULT]\ncpu_allocation_ratio = .5\nreport_interval = +7', { cpuAllocationRatio: 0.5 }],
    ['a reference', '[DEFAULT]\nstate_path = /s\ninstances_path = $state_path/i', { instancesPath: '/s/i' }],
    ['a reference in braces', '[DEFAULT]\nhost = a\nmy_ip = ${host}x', { myIp: 'ax' }],
    ['a reference to a default', '[DEFAULT]\nmy_ip = ${libvirt.virt_type}', { myIp: 'kvm' }],
    ["a reference to another's option", '[x]\ny = 1\n[DEFAULT]\nmy_ip = $x.y', { myIp: '1' }],
    ['dollar signs', '[DEFAULT]\nmy_ip = $$host\\$host 5$ $1', { myIp: '$host$host 5$ $1' }],
    [
      'an empty optional',
      '[DEFAULT]\nlog_dir =\ncpu_allocation_ratio =',
      { logDir: null, cpuAllocationRatio: null },
    ],
  ])('with %s', async (_name, text, expected) => {
    expect((await load(MINIMAL, text)).default).toMatchObject(expected);
  });

  test('of lists', async () => {
    const config = await load(
      MINIMAL,
      '[libvirt]\ncpu_models = a, b,\n  c ,\n[neutron]\nvalid_interfaces = public',
    );
    expect(config.libvirt.cpuModels).toEqual(['a', 'b', 'c']);
    expect(config.neutron.validInterfaces).toEqual(['public']);
  });

  test('of later files win, one by one', async () => {
    const config = await load(MINIMAL, '[DEFAULT]\nhost = a\nmy_ip = b', '[DEFAULT]\nhost = c');
    expect(config.default).toMatchObject({ host: 'c', myIp: 'b' });
  });

  test('of a directory are read by name', async () => {
    const folder = join(directory, 'conf.d');
    await mkdir(folder);
    await writeFile(join(folder, '20.conf'), '[DEFAULT]\nhost = twenty');
    await writeFile(join(folder, '10.conf'), `${MINIMAL}\n[DEFAULT]\nhost = ten\nmy_ip = x`);
    await writeFile(join(folder, 'nova.conf.bak'), '[DEFAULT]\nhost = old');
    expect((await loadConfig([folder])).default).toMatchObject({ host: 'twenty', myIp: 'x' });
  });

  test('find their section in any case, but DEFAULT', async () => {
    const config = await load(MINIMAL, '[LibVirt]\nvirt_type = qemu\n[default]\nhost = lower');
    expect(config.libvirt.virtType).toBe('qemu');
    expect(config.default.host).toBe(hostname());
  });

  test('that are not ours are left alone', async () => {
    const config = await load(
      MINIMAL,
      '[DEFAULT]\ncompute_driver = $nowhere\n[hyperv]\nlimit = -\n[x]\na\t=1',
    );
    expect(config.default.host).toBe(hostname());
  });
});

describe('credentials', () => {
  test('are those of the section, by any spelling', async () => {
    const config = await load(MINIMAL, '[placement]\nauth-url = https://k/v3\nregion_name = R\ntimeout = 7');
    expect(loginFrom(config, 'placement')).toEqual({
      authUrl: 'https://k/v3',
      username: 'placement',
      password: 'p1',
      regionName: 'R',
      timeoutMs: 7000,
      insecure: false,
      validInterfaces: ['internal', 'public'],
    });
  });

  test('come from the section that auth_section names', async () => {
    const config = await load(
      MINIMAL,
      '[glance]\nauth_section = service_user\nregion_name = G\n[service_user]\nauth_url = http://s\nusername = nova\npassword = p3',
    );
    expect(loginFrom(config, 'glance')).toMatchObject({ username: 'nova', password: 'p3', regionName: 'G' });
  });

  test('come from the first section that has any', async () => {
    const config = await load(
      MINIMAL,
      '[keystone_authtoken]\nauth_url = http://s\nusername = n\npassword = p',
    );
    expect(loginFrom(config, 'glance', 'serviceUser', 'keystoneAuthtoken').username).toBe('n');
    expect(() => loginFrom(config, 'glance', 'serviceUser')).toThrow(
      'auth_url, username and password in section [glance] or [service_user]',
    );
  });
});

describe('what is wrong', () => {
  test('is said all at once, with file, line, option, value and what was expected', async () => {
    const text = `[DEFAULT]
report_interval = soon
debug = maybe
host = a b
instances_path = relative
[libvirt]
virt_type = xen
[vnc]
novncproxy_base_url = ftp://x
[prebake]
base_memory_mb = 64
sidecar_listen = 8790
`;
    expect(await problemsOf(MINIMAL, text)).toEqual([
      "nova-1.conf:4: [DEFAULT] host = a b: expected a host name (letters, digits and '_', '-', '.', '@')",
      'nova-1.conf:5: [DEFAULT] instances_path = relative: expected an absolute path',
      'nova-1.conf:2: [DEFAULT] report_interval = soon: expected an integer of at least 1',
      'nova-1.conf:3: [DEFAULT] debug = maybe: expected true or false',
      'nova-1.conf:7: [libvirt] virt_type = xen: expected one of kvm, qemu',
      'nova-1.conf:9: [vnc] novncproxy_base_url = ftp://x: expected an http:// or https:// URL',
      'nova-1.conf:11: [prebake] base_memory_mb = 64: expected an integer between 128 and 65536',
      'nova-1.conf:12: [prebake] sidecar_listen = 8790: expected address:port with an IP address or localhost, such as 127.0.0.1:8790',
    ]);
  });

  test('never shows a secret', async () => {
    const problems = await problemsOf(
      MINIMAL,
      '[DEFAULT]\ntransport_url = kafka://u:hush@h\n[neutron]\npassword = $hush',
    );
    expect(problems).toHaveLength(2);
    expect(problems.join()).toMatch(
      /transport_url = \*\*\*: expected rabbit:.*password = \*\*\*: expected an option/,
    );
    expect(problems[0]).not.toContain('hush');
  });

  test('may be that something is missing', async () => {
    expect(await problemsOf('[DEFAULT]\nhost = a')).toEqual([
      'nova-0.conf: [DEFAULT] transport_url is missing: expected rabbit://user:password@host:port/vhost (several user:password@host:port separated by commas)',
    ]);
    expect(await problemsOf(MINIMAL.replace('username = neutron', '').replace('password = p1', ''))).toEqual([
      'nova-0.conf: [placement] password is missing: expected text',
      'nova-0.conf: [neutron] username is missing: expected text',
    ]);
  });

  test('may be a slip of the pen in our own section', async () => {
    expect(await problemsOf(MINIMAL, '[prebake]\nbase_memory = 512\nxyzzy = 1')).toEqual([
      'nova-1.conf:2: [prebake] base_memory = 512: expected base_memory_mb (did you mean that?)',
      expect.stringMatching(/^nova-1\.conf:3: \[prebake\] xyzzy = 1: expected one of bake, /),
    ]);
  });

  test('may be options that do not fit together', async () => {
    expect(await problemsOf(MINIMAL, '[prebake]\nmax_memory_mb = 256')).toEqual([
      'nova-0.conf, nova-1.conf: [prebake] max_memory_mb = 256: expected at least base_memory_mb (512)',
    ]);
    expect(await problemsOf(MINIMAL, '[libvirt]\nfile_backed_memory = 512')).toEqual([
      'nova-0.conf, nova-1.conf: [DEFAULT] ram_allocation_ratio is missing: expected 1.0, since memory is in files (file_backed_memory)',
      'nova-0.conf, nova-1.conf: [libvirt] file_backed_memory = 512: expected more than reserved_host_memory_mb (512)',
    ]);
    const fitting = '[DEFAULT]\nram_allocation_ratio = 1.0\n[libvirt]\nfile_backed_memory = 4096';
    await expect(load(MINIMAL, fitting)).resolves.toMatchObject({ libvirt: { fileBackedMemory: 4096 } });
  });

  test.each([
    ['a line that is none', '[DEFAULT]\nhost', 'nova-1.conf:2: expected option = value'],
    ['an option without a name', '= 1', 'nova-1.conf:1: expected option = value'],
    ['a section without an end', '[DEFAULT\nhost = a', 'nova-1.conf:1: expected [section]'],
    ['a section without a name', '[]', 'nova-1.conf:1: expected [section]'],
    [
      'a continuation of nothing',
      '[DEFAULT]\n  host = a',
      'nova-1.conf:2: expected an option before this continuation line (or no indentation)',
    ],
  ])('may be %s', async (_name, text, problem) => {
    expect(await problemsOf(MINIMAL, text)).toEqual([problem]);
  });

  test('may be a value that refers to itself', async () => {
    expect(await problemsOf(MINIMAL, '[DEFAULT]\nhost = $my_ip\nmy_ip = $host')).toEqual([
      'nova-1.conf:2: [DEFAULT] host = $my_ip: expected a value that does not refer to itself',
      'nova-1.conf:3: [DEFAULT] my_ip = $host: expected a value that does not refer to itself',
    ]);
  });

  test('may be a file that is not there', async () => {
    const error: unknown = await loadConfig([join(directory, 'none.conf')]).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ConfigError);
    expect(String(error)).toMatch(/none\.conf: expected a file that can be read \(.*ENOENT/);
  });
});

test('a file that was changed under a running service: what can be taken is, the rest is named', async () => {
  const running = await load(`${MINIMAL}[prebake]\nbake = auto\n`);
  const changed = `${MINIMAL}[prebake]\nbake = never\nmax_vcpus = 4\n[DEFAULT]\ndebug = true\n`;
  expect(takeMutable(running, await load(changed))).toEqual({
    taken: ['[DEFAULT] debug', '[prebake] bake'],
    needRestart: ['[prebake] max_vcpus'],
  });
  expect(running.default.debug).toBe(true);
  expect(running.prebake).toMatchObject({ bake: 'never', maxVcpus: 16 });
  expect(takeMutable(running, running)).toEqual({ taken: [], needRestart: [] });
});

test('docs/configuration.md is what `prebake config-docs` writes', async () => {
  const page = await readFile(join(__dirname, '../../docs/configuration.md'), 'utf8');
  expect(page).toBe(configurationReference());
});
