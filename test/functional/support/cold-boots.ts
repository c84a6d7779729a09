/** Servers that boot cold, for tests of the driver alone: what it is asked for, without an OpenStack to ask. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { InstanceSpec, SpawnRequest } from '../../../drivers/driver';
import type { DriverSettings } from '../../../drivers/libvirt';
import type { NetworkInfo, Vif } from '../../../lib/objects';
import { Timeline } from '../../../lib/timeline';
import { EMULATION, OTHER_CONSOLES } from '../../support/settings';

/** The tiny guest that the all-in-one builds. */
export const TINY_IMAGE = join(process.env['PREBAKE_CLOUD'] ?? '/srv/prebake-cloud', 'images', 'tiny.qcow2');

/** Settings of a driver whose servers are under `directory`. */
export function driverSettings(directory: string, libvirtUri: string): DriverSettings {
  return {
    default: { instancesPath: join(directory, 'instances'), forceRawImages: true },
    libvirt: { ...EMULATION, connectionUri: libvirtUri },
    vnc: { enabled: true, serverListen: '127.0.0.1', serverProxyclientAddress: '127.0.0.1' },
    ...OTHER_CONSOLES,
  };
}

/** A small server. */
export function coldServer(imageId: string, changes: Partial<InstanceSpec> = {}): InstanceSpec {
  return {
    uuid: randomUUID(),
    name: `instance-${Math.floor(Math.random() * 0xffffffff).toString(16)}`,
    displayName: '<evil> & "name"\u0001',
    projectId: 'project',
    userId: 'user',
    flavor: { name: 'm1', vcpus: 1, memoryMb: 96, rootGb: 1, ephemeralGb: 0, swapMb: 0, extraSpecs: {} },
    image: {
      id: imageId,
      diskFormat: 'qcow2',
      containerFormat: 'bare',
      sizeBytes: 0,
      minDiskGb: 0,
      minRamMb: 0,
      checksum: null,
      properties: {},
    },
    ...changes,
  };
}

/** One port, named after the server. */
export function onePort(uuid: string, bridge: string, changes: Partial<Vif> = {}): NetworkInfo {
  return [
    {
      id: uuid,
      address: 'fa:16:3e:00:00:01',
      type: 'bridge',
      devname: `tap${uuid.slice(0, 11)}`,
      active: false,
      preserve_on_delete: false,
      network: { id: uuid, bridge, subnets: [], meta: { mtu: 1450 } },
      ...changes,
    },
  ];
}

/** A boot of it with a config drive. */
export function coldBoot(
  instance: InstanceSpec,
  network: NetworkInfo,
  changes: Partial<SpawnRequest> = {},
): SpawnRequest {
  const files = [{ path: 'openstack/latest/meta_data.json', content: Buffer.from('{"uuid": "x"}') }];
  return {
    instance,
    template: { none: 'no µVM yet' },
    network: Promise.resolve(network),
    identity: Promise.resolve({
      uuid: instance.uuid,
      hostname: 'tiny',
      publicKeys: [],
      adminPassword: null,
      userData: null,
      files,
      configDrive: true,
    }),
    vifsPlugged: () => Promise.resolve(),
    timeline: new Timeline(),
    signal: new AbortController().signal,
    ...changes,
  };
}
