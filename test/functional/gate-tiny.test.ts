/** The gate in the tiny guest, in plain QEMU: sealed, then made someone, with resources plugged in between. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { InstanceIdentity } from '../../drivers/driver';
import type { NetworkInfo } from '../../lib/objects';
import { bakeDriveFiles, GATE_VERSION } from '../../lib/bake/bake-drive';
import { GateClient } from '../../lib/bake/gate';
import { buildIdentifyMessage } from '../../lib/bake/identify';
import { PlainGuest } from './support/plain-guest';

const IMAGE = join(process.env['PREBAKE_CLOUD'] ?? '/srv/prebake-cloud', 'images', 'tiny.qcow2');
const MAC = 'fa:16:3e:00:00:07';
const CALL = { timeoutMs: 60_000 };
const ROOT_BYTES = 256 * 1024 * 1024;

const identity: InstanceIdentity = {
  uuid: '6a3c1f0e-1f6b-4c3a-9f57-0d7b8c3f2a11',
  hostname: "it's-$(reboot)",
  publicKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 someone@example'],
  adminPassword: null,
  userData: Buffer.from('#!/bin/sh\necho "user data of $(hostname)" >/dev/console\n'),
  files: [],
  configDrive: true,
};
const network: NetworkInfo = [
  {
    id: 'port',
    address: MAC,
    type: 'bridge',
    devname: 'tap0',
    active: true,
    preserve_on_delete: false,
    network: {
      id: 'network',
      bridge: 'brq0',
      meta: { mtu: 1450 },
      subnets: [
        {
          cidr: '10.77.0.0/24',
          version: 4,
          dns: [{ address: '10.77.0.1' }],
          gateway: { address: '10.77.0.1' },
          ips: [{ address: '10.77.0.7' }],
          routes: [],
        },
      ],
    },
  },
];

jest.setTimeout(180_000);

describe('the gate of a guest without cloud-init', () => {
  let guest: PlainGuest;
  let gate: GateClient;

  beforeAll(async () => {
    guest = await PlainGuest.start({ imagePath: IMAGE, memoryMb: 256, drive: bakeDriveFiles() });
    gate = await GateClient.connect(guest.gateSocketPath, { deadlineMs: 10_000 });
  });
  afterAll(async () => {
    gate.close();
    await guest.stop();
  });

  it('says hello with the version of the programs on the drive', async () => {
    const hello = await gate.waitHello({ timeoutMs: 120_000 });
    expect(hello).toMatchObject({ kind: 'busybox', gate: GATE_VERSION });
  });

  it('forgets who it was', async () => {
    await gate.seal([], CALL);
    const answers = await gate.ask(CALL);
    expect(answers).toMatchObject({ hostname: 'localhost', instanceId: '', vcpus: 1, addresses: [] });
  });

  it('becomes someone while what the flavor adds is plugged in', async () => {
    const before = await gate.ask(CALL);
    const message = buildIdentifyMessage(identity, network, {
      vcpus: 3,
      hotplugMemoryMb: 256,
      rootBytes: ROOT_BYTES,
      disks: [],
    });
    await guest.command('stop');
    const identification = gate.identify(message, { ...CALL, doneTimeoutMs: 60_000 });
    await identification.sent;
    await guest.command('block_resize', { device: 'root', size: ROOT_BYTES });
    await guest.command('object-add', {
      'qom-type': 'memory-backend-ram',
      id: 'dimm',
      size: 256 * 1024 * 1024,
    });
    await guest.command('device_add', { driver: 'pc-dimm', id: 'dimm0', memdev: 'dimm' });
    for (const socket of [1, 2]) {
      await guest.command('device_add', {
        ...{ driver: 'qemu64-x86_64-cpu', id: `cpu${socket}` },
        ...{ 'socket-id': socket, 'core-id': 0, 'thread-id': 0 },
      });
    }
    await guest.command('device_add', { driver: 'virtio-net-pci', id: 'nic', mac: MAC });
    await guest.command('cont');

    await identification.identity;
    const ready = await identification.ready;
    await identification.done;
    expect(ready).toMatchObject({ vcpus: 3, rootBytes: ROOT_BYTES });
    const after = await gate.ask(CALL);
    // Of a name the gate sends only what needs no quoting; the user data below prints it whole.
    expect(ready.memoryMb - before.memoryMb).toBeGreaterThan(240);
    expect(after).toMatchObject({ hostname: 'its-reboot', instanceId: identity.uuid, vcpus: 3 });
    expect(after.addresses).toEqual(['eth0 10.77.0.7/24']);
    expect(after.random).not.toBe(before.random);
    expect(Math.abs(after.timeMs - Date.now())).toBeLessThan(10_000);
  });

  it('runs the user data afterwards and goes on answering until told to leave', async () => {
    await gate.ask(CALL);
    await gate.bye();
    const console = await readFile(guest.consoleLogPath, 'utf8');
    expect(console).toContain(`user data of ${identity.hostname}`);
  });
});
