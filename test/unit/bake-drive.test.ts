/** The drive that carries the gate into an image. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BAKE_NIC_MAC, bakeDriveFiles, GATE_VERSION } from '../../lib/bake/bake-drive';

const run = promisify(execFile);
const GUEST = join(__dirname, '..', '..', 'lib', 'bake', 'guest');

function content(name: string): string {
  const file = bakeDriveFiles().find(({ path }) => path === `openstack/latest/${name}`);
  if (file === undefined) throw new Error(`no ${name}`);
  return file.content.toString();
}

describe('bakeDriveFiles', () => {
  it('gives the bake a static network, so that nothing waits for one', () => {
    const network: unknown = JSON.parse(content('network_data.json'));
    expect(network).toMatchObject({
      links: [{ ethernet_mac_address: BAKE_NIC_MAC }],
      networks: [{ type: 'ipv4', link: 'bake' }],
    });
  });

  it('keeps cloud-init from making host keys', () => {
    const vendor: unknown = JSON.parse(content('vendor_data.json'));
    expect(vendor).toEqual({
      'cloud-init': expect.stringMatching(/^#cloud-config\n.*"ssh_genkeytypes":\[\]/) as string,
    });
  });

  it('unpacks exactly the programs of the repository', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-drive-'));
    try {
      const script = content('user_data').replace('directory=/run/prebake', `directory=${directory}`);
      // Only the unpacking is run here; the rest starts services.
      const unpacking = script.slice(0, script.indexOf('\nif command -v python3'));
      await writeFile(join(directory, 'script'), unpacking);
      await run('sh', [join(directory, 'script')]);
      const sources = (await readdir(GUEST)).filter((name) => /^(?!launch).*\.(py|sh)$/.test(name));
      for (const name of sources) {
        const unpacked = await readFile(join(directory, name), 'utf8');
        expect(unpacked).toBe(await readFile(join(GUEST, name), 'utf8'));
      }
      expect(await readFile(join(directory, 'version'), 'utf8')).toBe(`${GATE_VERSION}\n`);
      expect(sources.length).toBeGreaterThan(10);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('names the programs by their content', () => {
    expect(GATE_VERSION).toMatch(/^[0-9a-f]{16}$/);
  });
});
