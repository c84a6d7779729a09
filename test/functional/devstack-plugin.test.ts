/** The devstack plugin, phase by phase as devstack calls it, with the all-in-one as the cloud it stacks. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import axios from 'axios';

const run = promisify(execFile);
const ROOT = join(__dirname, '../..');
const CLOUD = process.env.PREBAKE_CLOUD ?? '/srv/prebake-cloud';
const PHASE = `
set -eu
. "$ROOT/test/support/devstack-functions.sh"
. "$ROOT/devstack/override-defaults"
. "$ROOT/devstack/settings"
. "$ROOT/devstack/plugin.sh"
`;

describe('the devstack plugin', () => {
  let state: string;
  beforeAll(async () => {
    state = await mkdtemp(join(tmpdir(), 'prebake-devstack-'));
  });
  afterAll(async () => {
    await phase('unstack').catch(() => undefined);
    await rm(state, { recursive: true });
  });

  async function phase(...mode: readonly string[]): Promise<void> {
    await run('bash', ['-c', PHASE, 'plugin', ...mode], {
      timeout: 180_000,
      env: {
        PATH: process.env.PATH,
        ROOT,
        STATE: state,
        DEST: state,
        STACK_USER: 'root',
        NOVA_CPU_CONF: join(CLOUD, 'etc/nova-compute.conf'),
        PREBAKE_DIR: ROOT,
        PREBAKE_CONF_DIR: join(state, 'etc'),
        PREBAKE_HOOK: join(state, 'hooks/prebake'),
        PREBAKE_BAKE: 'never',
      },
    });
  }

  const content = (name: string): Promise<string> => readFile(join(state, name), 'utf8');
  const ready = async (): Promise<number | null> =>
    axios.get('http://127.0.0.1:8790/readyz', { proxy: false }).then(
      ({ status }) => status,
      () => null,
    );

  test('installs what the build needs, the build and the hook', async () => {
    await mkdir(join(state, 'etc'), { recursive: true });
    await phase('stack', 'pre-install');
    expect(await content('packages')).toContain('genisoimage');
    await phase('stack', 'install');
    expect(await content('npm')).toBe('ci\nrun build\n');
    expect((await stat(join(state, 'hooks/prebake'))).mode & 0o777).toBe(0o755);
    expect(await content('plugins')).toContain('prebake');
  });

  test('configures the service, again and again the same', async () => {
    await phase('stack', 'post-config');
    await phase('stack', 'post-config');
    expect(await content('etc/prebake.conf')).toBe('[prebake]\nbake = never\nbase_memory_mb = 256\n');
    expect(await content('restarted')).toContain('libvirtd');
  });

  test('has the service in the place of n-cpu, serving', async () => {
    await phase('stack', 'extra');
    expect(await content('stopped')).toBe('n-cpu\n');
    expect(await ready()).toBe(200);
  });

  test('stops with unstack and leaves nothing after clean', async () => {
    await phase('unstack');
    expect(await ready()).toBeNull();
    await phase('clean');
    await expect(stat(join(state, 'hooks/prebake'))).rejects.toThrow('ENOENT');
  });
});
