/** What can be done to a server during its life besides power: suspend, NICs, reports, passwords. The image is a tiny one. */
import { z } from 'zod';
import { Instance } from '../../lib/objects';
import { deviceList } from '../../lib/compute/metadata';
import { CloudRpc } from '../support/cloud-rpc';
import { ComputeProcess } from '../support/compute-process';
import { NovaApi, type Server, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, devicesOnConfigDrive, run, taps, traces, waitForPing } from '../support/servers';

const portsSchema = z.object({
  ports: z.array(z.looseObject({ id: z.string(), device_id: z.string(), status: z.string() })),
});
const attachedSchema = z.object({
  interfaceAttachment: z.looseObject({ port_id: z.string(), mac_addr: z.string() }),
});

const sentSchema = z.object({ nic_details: z.array(z.object({ tx_packets: z.number() })) });

function sentPackets(diagnostics: unknown): number {
  return sentSchema.parse(diagnostics).nic_details.reduce((sum, nic) => sum + nic.tx_packets, 0);
}

describe('operations on a live server', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let server: Server;
  let rpc: CloudRpc;

  beforeAll(async () => {
    nova = await NovaApi.login();
    compute = await ComputeProcess.start();
    rpc = await CloudRpc.connect();
    await run(ALL_IN_ONE, ['discover-hosts']);
    const id = await nova.create({
      name: 'live',
      image: await nova.imageId('tiny'),
      flavor: await nova.flavorId('m1.micro'),
      configDrive: true,
      networks: [{ uuid: await nova.networkId('private'), tag: 'front' }],
      diskTag: 'system',
    });
    server = await nova.waitForStatus(id, 'ACTIVE');
    await waitForPing(nova, server);
  });
  afterAll(async () => {
    await rpc.close();
    await nova.delete(server.id);
    await nova.waitForGone(server.id);
    expect(await traces(nova, server)).toEqual([]);
    await compute.stop();
  });

  async function virsh(...args: string[]): Promise<string> {
    return (await run('virsh', ['-c', 'qemu:///system', ...args])).stdout;
  }

  /** MAC addresses of the NICs that the guest has now, or will have at its next start. */
  async function nics(when: 'now' | 'next'): Promise<string[]> {
    const list = await virsh('domiflist', server.id, ...(when === 'next' ? ['--inactive'] : []));
    return list.match(/(?:[0-9a-f]{2}:){5}[0-9a-f]{2}/g) ?? [];
  }

  async function portsOfServer(): Promise<string[]> {
    const { ports } = portsSchema.parse(await nova.get('network', `/v2.0/ports?device_id=${server.id}`));
    return ports.map((port) => port.id);
  }

  async function attach(what: Readonly<Record<string, unknown>>) {
    const url = `${nova.url('compute')}/servers/${server.id}/os-interface`;
    const { data } = await nova.http.post<unknown>(url, { interfaceAttachment: what });
    return attachedSchema.parse(data).interfaceAttachment;
  }

  async function detach(portId: string): Promise<void> {
    await nova.http.delete(`${nova.url('compute')}/servers/${server.id}/os-interface/${portId}`);
    await waitFor(
      async () => ((await portsOfServer()).includes(portId) ? null : true),
      120_000,
      () => `port ${portId} is still attached`,
    );
  }

  async function diagnostics(version: string): Promise<unknown> {
    const { data } = await nova.http.get<unknown>(`${nova.url('compute')}/servers/${server.id}/diagnostics`, {
      headers: { 'OpenStack-API-Version': `compute ${version}` },
    });
    return data;
  }

  async function lastAction(action: string) {
    const { instanceActions } = z
      .object({
        instanceActions: z.array(z.looseObject({ action: z.string(), message: z.string().nullable() })),
      })
      .parse(await nova.get('compute', `/servers/${server.id}/os-instance-actions`));
    return instanceActions.find((found) => found.action === action);
  }

  /** Its tagged devices, as the metadata service tells of them. */
  async function taggedDevices() {
    const args = [server.id, ['device_metadata']];
    return deviceList(await rpc.find(Instance, ['Instance', 'get_by_uuid'], args), 'latest');
  }

  // matrix: operation.device-tags
  it('tells which of its devices its user called what', async () => {
    const [nic, disk] = await taggedDevices();
    const bus = { bus: 'pci', address: expect.stringMatching(/^0000:00:[0-9a-f]{2}\.0$/) as string };
    expect(nic).toEqual({
      type: 'nic',
      mac: (await nics('now'))[0],
      vf_trusted: false,
      tags: ['front'],
      ...bus,
    });
    expect(disk).toEqual({ type: 'disk', serial: null, tags: ['system'], ...bus });
    expect(disk?.address).not.toBe(nic?.address);
    expect(await devicesOnConfigDrive(server.id)).toEqual([nic, disk]);
  });

  // matrix: operation.suspend, operation.resume
  it('suspends one to disk and resumes it where it was', async () => {
    await nova.action(server.id, { suspend: null });
    const suspended = await nova.waitForStatus(server.id, 'SUSPENDED');
    expect(suspended['OS-EXT-STS:power_state']).toBe(4);
    expect(await virsh('dominfo', server.id)).toMatch(/Managed save: +yes/);
    await nova.action(server.id, { resume: null });
    await nova.waitForStatus(server.id, 'ACTIVE');
    await waitForPing(nova, server);
    expect(await virsh('dominfo', server.id)).toMatch(/Managed save: +no/);
    // A guest that had booted would have written so.
    const { output } = z
      .object({ output: z.string() })
      .parse(await nova.action(server.id, { 'os-getConsoleOutput': { length: 500 } }));
    expect(output).not.toMatch(/Linux version|Run \/init/);
  });

  it('suspends one even when the service is killed meanwhile', async () => {
    await nova.action(server.id, { suspend: null });
    await compute.kill();
    compute = await ComputeProcess.start();
    await nova.waitForStatus(server.id, 'SUSPENDED');
    await nova.action(server.id, { resume: null });
    await nova.waitForStatus(server.id, 'ACTIVE');
    await waitForPing(nova, server);
  });

  // matrix: operation.attach-interface, operation.attach-tagged-interface, operation.detach-interface, operation.device-tags
  it('gives one that runs a tagged NIC and takes it away again', async () => {
    const before = { nics: await nics('now'), taps: await taps(), ports: await portsOfServer() };
    const added = await attach({ net_id: await nova.networkId('private'), tag: 'spare' });
    expect(await nics('now')).toContain(added.mac_addr);
    expect(await nics('next')).toContain(added.mac_addr);
    await waitFor(
      async () => {
        const { ports } = portsSchema.parse(await nova.get('network', `/v2.0/ports?id=${added.port_id}`));
        return ports[0]?.status === 'ACTIVE' ? true : null;
      },
      60_000,
      () => 'the port is not wired',
    );
    expect((await taggedDevices()).map(({ tags }) => tags)).toEqual([['front'], ['spare'], ['system']]);
    await waitForPing(nova, server);
    await detach(added.port_id);
    expect(await nics('now')).toEqual(before.nics);
    expect(await nics('next')).toEqual(before.nics);
    expect(await portsOfServer()).toEqual(before.ports);
    expect((await taps()).sort()).toEqual(before.taps.sort());
    await waitFor(
      async () => ((await taggedDevices()).length === 2 ? true : null),
      30_000,
      () => 'the metadata still tells of the NIC',
    );
  });

  it("refuses a NIC on a port that is the server's already", async () => {
    const [port_id] = await portsOfServer();
    await expect(attach({ port_id })).rejects.toMatchObject({ response: { status: 409 } });
    expect(await portsOfServer()).toEqual([port_id]);
  });

  // matrix: operation.attach-interface
  it("gives one that is stopped a port of its user's, which outlives the NIC", async () => {
    const { data } = await nova.http.post<unknown>(`${nova.url('network')}/v2.0/ports`, {
      port: { network_id: await nova.networkId('private') },
    });
    const { port } = z.object({ port: z.object({ id: z.string() }) }).parse(data);
    try {
      await nova.action(server.id, { 'os-stop': null });
      await nova.waitForStatus(server.id, 'SHUTOFF');
      const added = await attach({ port_id: port.id });
      expect(await nics('next')).toContain(added.mac_addr);
      await nova.action(server.id, { 'os-start': null });
      await nova.waitForStatus(server.id, 'ACTIVE');
      expect(await nics('now')).toContain(added.mac_addr);
      // Two NICs on one network confuse the tiny guest, but a guest that sends has booted and can let go of them.
      await waitFor(
        async () => (sentPackets(await diagnostics('2.48')) > 0 ? true : null),
        90_000,
        () => 'the guest has not booted',
      );
      await detach(port.id);
      expect(await nics('now')).not.toContain(added.mac_addr);
      const { ports } = portsSchema.parse(await nova.get('network', `/v2.0/ports?id=${port.id}`));
      expect(ports).toMatchObject([{ device_id: '' }]);
    } finally {
      await nova.http.delete(`${nova.url('network')}/v2.0/ports/${port.id}`);
    }
  });

  it('takes the NIC from one whose port is deleted behind its back', async () => {
    const before = { nics: await nics('now'), taps: await taps() };
    const { port_id, mac_addr } = await attach({ net_id: await nova.networkId('private'), tag: 'doomed' });
    expect(await nics('now')).toContain(mac_addr);
    await nova.http.delete(`${nova.url('network')}/v2.0/ports/${port_id}`);
    await waitFor(
      async () => ((await nics('now')).includes(mac_addr) ? null : true),
      120_000,
      () => 'the NIC of the deleted port is still plugged in',
    );
    expect(await nics('next')).toEqual(before.nics);
    expect((await taps()).sort()).toEqual(before.taps.sort());
    await waitFor(
      async () => {
        const addresses = Object.values((await nova.show(server.id))?.addresses ?? {}).flat();
        return addresses.length === 1 ? true : null;
      },
      30_000,
      () => "Nova still shows the deleted port's address",
    );
  });

  // matrix: operation.get-guest-info
  it('tells what one has used, in the words of either API version', async () => {
    expect(await diagnostics('2.48')).toMatchObject({
      state: 'running',
      driver: 'libvirt',
      num_cpus: 1,
      num_nics: 1,
      cpu_details: [{ id: 0, time: expect.any(Number) as number }],
      nic_details: [{ mac_address: (await nics('now'))[0], rx_octets: expect.any(Number) as number }],
      memory_details: { maximum: expect.any(Number) as number },
    });
    const legacy = z.record(z.string(), z.number()).parse(await diagnostics('2.47'));
    expect(legacy).toMatchObject({
      cpu0_time: expect.any(Number) as number,
      vda_read: expect.any(Number) as number,
      memory: expect.any(Number) as number,
    });
    expect(legacy.cpu0_time).toBeGreaterThan(0);
  });

  it('refuses a password for a guest without an agent, and leaves the server as it was', async () => {
    const refused = nova.action(server.id, { changePassword: { adminPass: 'secret' } });
    await expect(refused).rejects.toMatchObject({ response: { status: 409 } });
    await waitFor(
      async () => ((await lastAction('changePassword'))?.message === 'Error' ? true : null),
      30_000,
      () => 'changePassword was not refused',
    );
    await nova.waitForStatus(server.id, 'ACTIVE');
  });

  // matrix: operation.trigger-crash-dump
  it('sends one an NMI', async () => {
    await nova.action(server.id, { trigger_crash_dump: null });
    await waitFor(
      async () => {
        const { instanceAction } = z
          .object({
            instanceAction: z.object({ events: z.array(z.looseObject({ result: z.string().nullable() })) }),
          })
          .parse(
            await nova.get(
              'compute',
              `/servers/${server.id}/os-instance-actions/${String((await lastAction('trigger_crash_dump'))?.request_id)}`,
            ),
          );
        return instanceAction.events.some((event) => event.result === 'Success') ? true : null;
      },
      30_000,
      () => 'no NMI was sent',
    );
    expect((await nova.show(server.id))?.status).toBe('ACTIVE');
  });

  it('has only the consoles that are configured', async () => {
    const url = `${nova.url('compute')}/servers/${server.id}/remote-consoles`;
    for (const [protocol, type] of [
      ['spice', 'spice-html5'],
      ['serial', 'serial'],
    ]) {
      await expect(nova.http.post(url, { remote_console: { protocol, type } })).rejects.toMatchObject({
        response: { status: 400 },
      });
    }
  });
});
