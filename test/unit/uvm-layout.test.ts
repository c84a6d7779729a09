/** The hardware of a µVM: what is captured and what is restored must be one and the same machine. */
import { XMLParser } from 'fast-xml-parser';
import {
  configDriveXml,
  dimmXml,
  spareNicXml,
  SPARES,
  uvmDomainXml,
  type UvmDomain,
} from '../../drivers/libvirt/uvm/layout';
import { EMULATION, OTHER_CONSOLES } from '../support/settings';

const common: Omit<UvmDomain, 'role'> = {
  name: 'instance-00000001',
  uuid: '6a3c1f0e-1f6b-4c3a-9f57-0d7b8c3f2a11',
  memoryMb: 512,
  platform: {
    virtType: 'qemu',
    machineType: 'pc-i440fx-7.2',
    cpuModel: 'qemu64',
    qemuMajorVersion: 7,
    firmware: 'bios',
    layoutVersion: 1,
    maxVcpus: 4,
    maxMemoryMb: 4096,
  },
  settings: {
    default: { instancesPath: '/i', forceRawImages: true },
    libvirt: EMULATION,
    vnc: { enabled: true, serverListen: '127.0.0.1', serverProxyclientAddress: '127.0.0.1' },
    ...OTHER_CONSOLES,
  },
  serialPorts: [],
  emulatorPath: '/usr/bin/qemu-system-x86_64',
  ramPath: '/cache/bakes/1/ram',
  directory: '/i/<"&>',
  diskPath: '/i/disk',
  drivePath: '/i/drive',
  gateSocketPath: '/i/gate',
  consoleLogPath: '/i/console.log',
};
const parser = new XMLParser({ ignoreAttributes: false, attributeNamePrefix: '@' });

/** What the guest sees: every element that is a device or shapes the machine, without what only the host sees. */
function guestView(role: UvmDomain['role']): unknown {
  const xml = uvmDomainXml({ ...common, role })
    .replace(/<interface[^]*?<\/interface>/g, '')
    .replace(/<access [^>]*>/, '')
    .replace(/<on_reboot>\w+<\/on_reboot>/, '')
    .replace(/ cache="\w+"/g, '')
    .replace(/<qemu:arg value="(-incoming|defer)"\/>/g, '')
    .replace(/>\s+</g, '><');
  return parser.parse(xml) as unknown;
}

const MAC = '52:54:00:ba:4e:01';
const bake = { bake: { nicMac: MAC } };

test('a clone is the machine that was baked, once it has its NIC', () => {
  expect(guestView('clone')).toEqual(guestView(bake));
  expect(SPARES).toEqual(['0000:00:10.0', '0000:00:11.0']);
  const place = (xml: string): string | undefined =>
    /<interface[^]*?(<address[^>]*slot[^>]*>)/.exec(xml)?.[1];
  expect(place(spareNicXml(MAC))).toBe(place(uvmDomainXml({ ...common, role: bake })));
  expect(place(spareNicXml(MAC))).toContain('slot="0x11"');
});

test('nothing in it lets a guest discard memory of its file, which all clones share', () => {
  for (const role of ['clone', bake] as const) {
    const xml = uvmDomainXml({ ...common, role });
    expect(xml).toContain('<memballoon model="none"/>');
    expect(xml).not.toMatch(/virtio-mem|freePageReporting/);
  }
});

test('clones map the RAM file privately and wait for device state; the bake writes the file', () => {
  const clone = uvmDomainXml({ ...common, role: 'clone' });
  expect(clone).toContain('<access mode="private"/>');
  expect(clone).toContain('<qemu:arg value="-incoming"/>');
  const baking = uvmDomainXml({ ...common, role: bake });
  expect(baking).toContain('<access mode="shared"/>');
  expect(baking).not.toContain('incoming');
});

test('names cannot become markup', () => {
  expect(uvmDomainXml({ ...common, role: 'clone' })).toContain('directory="/i/&lt;&quot;&amp;&gt;"');
  expect(configDriveXml('/a"><evil/>')).not.toContain('<evil');
  expect(dimmXml(128)).toContain('<size unit="MiB">128</size>');
});
