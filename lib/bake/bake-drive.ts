/**
 * The config drive an image boots with when it is baked: carries the gate in, and keeps the boot from making an identity.
 *
 * It is the only way in: the image itself is never modified.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ConfigDriveFile } from '../../drivers/driver';

/** MAC of the throw-away NIC a guest has while it is baked. */
export const BAKE_NIC_MAC = '52:54:00:ba:4e:01';

const BAKE_INSTANCE_ID = '52540000-ba4e-4000-8000-000000000001';
const PYTHON_FILES = [
  'gate.py',
  'alike.py',
  'answers.py',
  'cloud.py',
  'identity.py',
  'network.py',
  'resources.py',
  'seal.py',
  'shortcuts.py',
  'spares.py',
  'sshd.py',
  'system.py',
];
const SHELL_FILE = 'gate.sh';
const LAUNCHER = 'launch.sh';
const END_MARK = 'PREBAKE_END_OF_FILE';

const guestFiles = readGuestFiles();

/** Names the programs that run inside the guest: µVMs made with others are not interchangeable. */
export const GATE_VERSION = createHash('sha256')
  .update(JSON.stringify([...guestFiles]))
  .digest('hex')
  .slice(0, 16);

/** The whole content of a bake's config drive (volume label `config-2`). */
export function bakeDriveFiles(): ConfigDriveFile[] {
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const contents = {
    'meta_data.json': json({
      uuid: BAKE_INSTANCE_ID,
      hostname: 'prebake',
      name: 'prebake',
      launch_index: 0,
      devices: [],
    }),
    'network_data.json': json(networkData()),
    'vendor_data.json': json({ 'cloud-init': bakeCloudConfig() }),
    user_data: Buffer.from(userData()),
  };
  return ['latest', '2018-08-27'].flatMap((version) =>
    Object.entries(contents).map(([name, content]) => ({ path: `openstack/${version}/${name}`, content })),
  );
}

/** A static address, because a NIC that never comes online would hold up the boot for minutes. */
function networkData(): unknown {
  return {
    links: [{ id: 'bake', vif_id: 'bake', type: 'bridge', mtu: 1500, ethernet_mac_address: BAKE_NIC_MAC }],
    networks: [
      {
        id: 'bake',
        network_id: 'bake',
        link: 'bake',
        type: 'ipv4',
        ip_address: '192.0.2.2',
        netmask: '255.255.255.0',
        routes: [],
        services: [],
      },
    ],
    services: [],
  };
}

/** No host keys, nothing that grows or updates: all that happens in the clone, with the clone's own settings. */
function bakeCloudConfig(): string {
  const settings = {
    ssh_deletekeys: false,
    ssh_genkeytypes: [],
    growpart: { mode: 'off' },
    resize_rootfs: false,
    package_update: false,
    package_upgrade: false,
  };
  return `#cloud-config\n${JSON.stringify(settings)}\n`;
}

/** One shell script for every kind of guest: unpacks the gate into memory and starts it. */
function userData(): string {
  const launcher = guestFiles.get(LAUNCHER) ?? '';
  const unpack = [...guestFiles]
    .filter(([name]) => name !== LAUNCHER)
    .map(([name, content]) => `cat >"$directory/${name}" <<'${END_MARK}'\n${content}${END_MARK}\n`)
    .join('');
  return launcher.replace('# @FILES@\n', () => unpack).replaceAll('@VERSION@', GATE_VERSION);
}

function readGuestFiles(): Map<string, string> {
  const directory = join(packageRoot(__dirname), 'lib', 'bake', 'guest');
  return new Map(
    [LAUNCHER, SHELL_FILE, ...PYTHON_FILES].map((name) => {
      const content = readFileSync(join(directory, name), 'utf8');
      if (content.includes(END_MARK)) throw new Error(`${name} contains the mark that ends it`);
      return [name, content];
    }),
  );
}

/** The guest's programs are not TypeScript, so they stay where they are when the rest is compiled to `dist`. */
function packageRoot(from: string): string {
  if (existsSync(join(from, 'package.json'))) return from;
  const parent = dirname(from);
  if (parent === from) throw new Error('the guest programs cannot be found: no package.json above this file');
  return packageRoot(parent);
}
