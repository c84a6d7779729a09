/** The connection against a real libvirtd: errors keep their reasons, events arrive, and a restart of the daemon is survived. */
import { randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import pino from 'pino';
import { z } from 'zod';
import {
  DomainState,
  ErrorCode,
  LibvirtConnection,
  MonitorError,
  isLibvirtError,
  type DomainEvent,
} from '../../drivers/libvirt';
import { HypervisorUnavailable, InstanceNotFound, describeError } from '../../lib/exceptions';
import { PrivateLibvirtd } from './support/private-libvirtd';
import { until } from './support/until';

const logger = pino({ level: 'silent' });
let libvirtd: PrivateLibvirtd;
let connection: LibvirtConnection;

beforeAll(async () => {
  libvirtd = await PrivateLibvirtd.start();
  connection = await LibvirtConnection.open({ uri: libvirtd.uri, logger });
}, 60_000);
afterAll(async () => {
  await connection.close();
  await libvirtd.stop();
}, 60_000);

/** A guest without any disk: its firmware finds nothing to boot and idles. */
function guestXml(uuid: string): string {
  return `<domain type='qemu'><name>guest-${uuid}</name><uuid>${uuid}</uuid><memory unit='MiB'>32</memory>
    <vcpu current='1'>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
    <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/></devices></domain>`;
}

/** Resolves with the first event of `uuid` with `kind`. */
function nextEvent(uuid: string, kind: DomainEvent['kind']): Promise<DomainEvent> {
  return new Promise((resolve) => {
    const stop = connection.onDomainEvent((event) => {
      if (event.uuid !== uuid || event.kind !== kind) return;
      stop();
      resolve(event);
    });
  });
}

function nextState(wanted: string): Promise<void> {
  return new Promise((resolve) => {
    const stop = connection.onState((state) => {
      if (state !== wanted) return;
      stop();
      resolve();
    });
  });
}

test('a daemon that is not there is HypervisorUnavailable, with the reason', async () => {
  const opening = LibvirtConnection.open({ uri: 'qemu+unix:///system?socket=/nonexistent', logger });
  const error: unknown = await opening.catch((e: unknown) => e);
  expect(error).toBeInstanceOf(HypervisorUnavailable);
  expect(describeError(error)).toContain("'/nonexistent': No such file or directory");
});

test('simultaneous failures keep their own reasons', async () => {
  const attempts = Array.from({ length: 30 }, async (_, i) => {
    const uuid = randomUUID();
    if (i % 2 === 0) {
      const error: unknown = await connection.lookupByUuid(uuid).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(InstanceNotFound);
      expect((error as Error).message).toContain(uuid);
    } else {
      const error: unknown = await connection.defineXml(`<nonsense-${i}/>`).catch((e: unknown) => e);
      expect(isLibvirtError(error, ErrorCode.NO_DOMAIN)).toBe(false);
      expect((error as Error).message).toContain(`nonsense-${i}`);
    }
  });
  await Promise.all(attempts);
});

test('versions and capabilities are read', async () => {
  expect(await connection.hypervisorVersion()).toBeGreaterThan(5_000_000);
  expect(await connection.libvirtVersion()).toBeGreaterThan(8_002_000);
  expect(await connection.capabilities()).toContain('<capabilities>');
  const query = { arch: 'x86_64', machine: 'pc', virtType: 'qemu' } as const;
  expect(await connection.domainCapabilities(query)).toMatch(/<machine>pc-i440fx-[\d.]+<\/machine>/);
});

test('a guest is started, paused, resumed, asked, and ended; its events arrive', async () => {
  const uuid = randomUUID();
  const seen: string[] = [];
  const stopListening = connection.onDomainEvent((event) => {
    if (event.uuid === uuid) seen.push(event.kind);
  });
  const domain = await connection.createXml(guestXml(uuid), { paused: true });
  expect(domain).toMatchObject({ uuid, name: `guest-${uuid}` });
  expect((await domain.state()).state).toBe(DomainState.PAUSED);
  expect((await connection.listAll()).map((other) => other.uuid)).toContain(uuid);
  await domain.resume();
  expect((await domain.state()).state).toBe(DomainState.RUNNING);
  await domain.setVcpus(2);
  expect(await domain.xmlDesc()).toContain("<vcpu placement='static'>2</vcpu>");
  const status = z.object({ running: z.boolean() }).parse(await domain.monitor('query-status'));
  expect(status.running).toBe(true);
  await expect(domain.monitor('no-such-command')).rejects.toBeInstanceOf(MonitorError);
  const file = await open(join(libvirtd.directory, 'passed'), 'w');
  await domain.monitorWithFd('getfd', { fdname: 'passed' }, file.fd);
  await file.close();
  await domain.monitor('closefd', { fdname: 'passed' });
  await expect(domain.monitor('closefd', { fdname: 'passed' })).rejects.toThrow(/closefd/);
  const stopped = nextEvent(uuid, 'stopped');
  await domain.destroy();
  await stopped;
  expect(seen).toEqual(expect.arrayContaining(['started', 'suspended', 'resumed', 'stopped']));
  await expect(domain.state()).rejects.toBeInstanceOf(InstanceNotFound);
  stopListening();
}, 30_000);

test('a definition survives its guest until it is undefined', async () => {
  const uuid = randomUUID();
  const domain = await connection.defineXml(guestXml(uuid));
  expect(await domain.isPersistent()).toBe(true);
  await domain.start({ paused: false });
  await domain.destroy();
  expect((await domain.state()).state).toBe(DomainState.SHUTOFF);
  await domain.undefine();
  await expect(connection.lookupByUuid(uuid)).rejects.toBeInstanceOf(InstanceNotFound);
}, 30_000);

test('a call that overruns its deadline is given up, and its thread accounted for', async () => {
  await connection.ping();
  libvirtd.freeze(true);
  try {
    await expect(connection.ping(300)).rejects.toThrow(/within 300 ms/);
    expect(connection.overdueCalls).toBe(1);
  } finally {
    libvirtd.freeze(false);
  }
  await until('the overdue call to end', () => connection.overdueCalls === 0);
  await connection.ping();
}, 30_000);

test('a killed daemon makes calls fail at once; it comes back with its guests and its events', async () => {
  const uuid = randomUUID();
  const domain = await connection.createXml(guestXml(uuid), { paused: false });
  const lost = nextState('reconnecting');
  await libvirtd.killDaemon();
  await lost;
  await expect(domain.state()).rejects.toBeInstanceOf(HypervisorUnavailable);
  const back = nextState('connected');
  await libvirtd.startDaemon();
  await back;
  expect((await domain.state()).state).toBe(DomainState.RUNNING);
  const stopped = nextEvent(uuid, 'stopped');
  await domain.destroy();
  await stopped;
}, 60_000);
