/** Which disks a rescued server has, by what the rescue image asks for. */
import { InstanceStore } from '../../drivers/libvirt/instance-store';
import { rescueDisks } from '../../drivers/libvirt/rescue';
import type { ImageSpec, RescueRequest } from '../../drivers/driver';
import { UnsupportedRescueBus, UnsupportedRescueDevice } from '../../lib/exceptions';

const UUID = '2abff8de-c6c0-4117-b4aa-adcbecb44bb2';
const paths = new InstanceStore('/i').paths(UUID);

function image(properties: Readonly<Record<string, string>>): ImageSpec {
  const sizes = { sizeBytes: 1, minDiskGb: 0, minRamMb: 0 };
  return { id: 'i', diskFormat: 'qcow2', containerFormat: 'bare', ...sizes, checksum: null, properties };
}

function request(rescue: Readonly<Record<string, string>>, own: Readonly<Record<string, string>> = {}) {
  const flavor = { name: 'f', vcpus: 1, memoryMb: 64, rootGb: 1, ephemeralGb: 1, swapMb: 0, extraSpecs: {} };
  const server = { uuid: UUID, name: 'n', displayName: 'd', projectId: 'p', userId: 'u' };
  const identity = { uuid: UUID, hostname: 'h', publicKeys: [], adminPassword: null, userData: null };
  const whole: RescueRequest = {
    instance: { ...server, flavor, image: image(own) },
    image: image(rescue),
    network: [],
    identity: { ...identity, files: [], configDrive: true },
    signal: new AbortController().signal,
  };
  return whole;
}

function disksOf(rescue: Readonly<Record<string, string>>, own: Readonly<Record<string, string>> = {}) {
  const { disks } = rescueDisks(request(rescue, own), paths, {
    ephemeral: true,
    swap: false,
    configDrive: true,
  });
  return disks.map((node) => {
    const { target, source, boot } = node as unknown as {
      target: { '@dev': string; '@bus': string };
      source: { '@file': string };
      boot?: { '@order': number };
    };
    const file = source['@file'].split('/').at(-1) ?? '';
    return `${target['@bus']} ${target['@dev']} ${file}${boot === undefined ? '' : ` boot ${boot['@order']}`}`;
  });
}

test('an ordinary rescue takes the place of the root disk, which comes next', () => {
  expect(disksOf({}, { hw_disk_bus: 'scsi' })).toEqual([
    'virtio vda disk.rescue boot 1',
    'virtio vdb disk',
    'virtio vdz disk.config.rescue',
  ]);
});

test.each([
  [{ hw_rescue_bus: 'virtio' }, {}, 'virtio vdc disk.rescue boot 1'],
  [{ hw_rescue_device: 'cdrom' }, {}, 'ide hda disk.rescue boot 1'],
  [{ hw_rescue_device: 'cdrom', hw_cdrom_bus: 'sata' }, {}, 'sata sda disk.rescue boot 1'],
  [{ hw_rescue_bus: 'usb' }, { hw_disk_bus: 'scsi' }, 'usb sdc disk.rescue boot 1'],
])('a stable one comes after all others: %j beside %j', (rescue, own, expected) => {
  const disks = disksOf(rescue, own);
  expect(disks.at(-1)).toBe(expected);
  expect(disks.slice(0, -1).map((line) => line.split(' ')[2])).toEqual(['disk', 'disk.eph0', 'disk.config']);
});

test('what is not provided is refused by the name Nova has for it', () => {
  expect(() => disksOf({ hw_rescue_device: 'floppy' })).toThrow(UnsupportedRescueDevice);
  expect(() => disksOf({ hw_rescue_bus: 'fdc' })).toThrow(UnsupportedRescueBus);
  expect(() => disksOf({ hw_rescue_device: 'cdrom', hw_rescue_bus: 'virtio' })).toThrow(UnsupportedRescueBus);
});
