/** Servers on a real OpenStack: booted, used, restarted under, deleted without a trace. The image is a tiny one. */
import { join } from 'node:path';
import { z } from 'zod';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NovaApi, type Server, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run, taps, traces, virsh, waitForPing } from '../support/servers';

describe('servers', () => {
  let nova: NovaApi;
  let compute: ComputeProcess;
  let image: string;
  let flavor: string;
  const made: string[] = [];

  beforeAll(async () => {
    nova = await NovaApi.login();
    image = await nova.imageId('tiny');
    flavor = await nova.flavorId('m1.micro');
    compute = await ComputeProcess.start();
    await run(ALL_IN_ONE, ['discover-hosts']);
  });
  afterEach(async () => {
    for (const id of made.splice(0)) {
      await nova.delete(id);
      await nova.waitForGone(id);
    }
  });
  afterAll(async () => {
    await compute.stop();
  });

  async function boot(name: string, imageId = image, flavorId = flavor): Promise<string> {
    const id = await nova.create({ name, image: imageId, flavor: flavorId });
    made.push(id);
    return id;
  }

  async function active(name: string): Promise<Server> {
    return nova.waitForStatus(await boot(name), 'ACTIVE');
  }

  function waitForReady(): Promise<true> {
    return waitFor(
      async () => ((await compute.get('/readyz')).status === 200 ? true : null),
      60_000,
      () => 'the service is not ready',
    );
  }

  // matrix: operation.launch, operation.terminate, console.serial.log, console.vnc, storage.image
  it('boots one from an image, gives it its address, console and VNC, and deletes it without a trace', async () => {
    const before = await taps();
    const server = await active('whole-life');
    expect(server['OS-EXT-SRV-ATTR:host']).toBe('prebake');
    expect(server['OS-EXT-STS:power_state']).toBe(1);
    await waitForPing(nova, server);
    expect((await taps()).length).toBeGreaterThan(before.length);

    const { output } = z
      .object({ output: z.string() })
      .parse(await nova.action(server.id, { 'os-getConsoleOutput': { length: 50 } }));
    expect(output.length).toBeGreaterThan(0);

    const { data } = await nova.http.post<unknown>(
      `${nova.url('compute')}/servers/${server.id}/remote-consoles`,
      {
        remote_console: { protocol: 'vnc', type: 'novnc' },
      },
    );
    const { remote_console: vnc } = z.object({ remote_console: z.object({ url: z.string() }) }).parse(data);
    expect(vnc.url).toMatch(/^http:\/\/127\.0\.0\.1:6080\/vnc_lite\.html\?path=/);

    expect(await traces(nova, server)).toEqual(['domain', 'files', 'port', 'allocation']);
    await nova.delete(server.id);
    await nova.waitForGone(server.id);
    expect(await traces(nova, server)).toEqual([]);
    await waitFor(
      async () => ((await taps()).length === before.length ? true : null),
      10_000,
      () => 'a tap is left',
    );
  });

  // matrix: operation.reboot, operation.pause, operation.unpause
  it('stops, starts, reboots softly and hard, pauses and unpauses one', async () => {
    const server = await active('power');
    await nova.action(server.id, { pause: null });
    expect((await nova.waitForStatus(server.id, 'PAUSED'))['OS-EXT-STS:power_state']).toBe(3);
    await nova.action(server.id, { unpause: null });
    await nova.waitForStatus(server.id, 'ACTIVE');
    await waitForPing(nova, server);
    await nova.action(server.id, { reboot: { type: 'SOFT' } });
    await nova.waitForStatus(server.id, 'ACTIVE');
    await waitForPing(nova, server);
    await nova.action(server.id, { reboot: { type: 'HARD' } });
    await nova.waitForStatus(server.id, 'ACTIVE');
    await nova.action(server.id, { 'os-stop': null });
    expect((await nova.waitForStatus(server.id, 'SHUTOFF'))['OS-EXT-STS:power_state']).toBe(4);
    await nova.action(server.id, { 'os-start': null });
    await nova.waitForStatus(server.id, 'ACTIVE');
    await waitForPing(nova, server);
  });

  // matrix: operation.get-guest-info
  describe('that end by themselves are shown as stopped within 10 s', () => {
    let server: Server;

    beforeAll(async () => {
      const id = await nova.create({ name: 'dies', image, flavor });
      server = await nova.waitForStatus(id, 'ACTIVE');
    });
    afterAll(async () => {
      await nova.delete(server.id);
      await nova.waitForGone(server.id);
    });

    async function pidOfQemu(): Promise<number> {
      const { stdout } = await run('pgrep', ['-f', `qemu-system.*-uuid ${server.id}`]);
      return Number(stdout.trim());
    }

    it.each<[string, () => Promise<unknown>]>([
      // The guest's own system reacts to the button.
      ['switched off', () => virsh('shutdown', '--mode', 'acpi', server.id)],
      // What a panicking kernel writes to its pvpanic device.
      ['panicked', () => virsh('qemu-monitor-command', server.id, '--hmp', 'o/b 0x505 1')],
      [
        'with a killed QEMU',
        async () => {
          process.kill(await pidOfQemu(), 'SIGKILL');
        },
      ],
      ['destroyed behind the service', () => virsh('destroy', server.id)],
    ])('%s', async (_how, end) => {
      await waitForPing(nova, server);
      const ended = waitFor(
        async () => ((await virsh('domstate', server.id)).startsWith('shut off') ? true : null),
        60_000,
        () => 'the guest has not ended',
      );
      await end();
      await ended;
      expect((await nova.waitForStatus(server.id, 'SHUTOFF', 10_000))['OS-EXT-STS:power_state']).toBe(4);
      await nova.action(server.id, { 'os-start': null });
      await nova.waitForStatus(server.id, 'ACTIVE');
    });
  });

  it('keeps one through a restart of the service and of RabbitMQ', async () => {
    const server = await active('survivor');
    await compute.kill();
    compute = await ComputeProcess.start();
    await waitForPing(nova, server);
    await run(ALL_IN_ONE, ['restart', 'rabbitmq']);
    // A cast to a host that has not come back to the broker yet is lost, with any compute service.
    await waitForReady();
    await nova.action(server.id, { 'os-stop': null });
    await nova.waitForStatus(server.id, 'SHUTOFF');
    await nova.action(server.id, { 'os-start': null });
    await nova.waitForStatus(server.id, 'ACTIVE');
  });

  it('refuses what it does not do, and leaves the server as it was', async () => {
    const server = await active('refused');
    const refused = nova.action(server.id, { changePassword: { adminPass: 'secret' } });
    await expect(refused).rejects.toMatchObject({ response: { status: 409 } });
    const events = async () => {
      const { data } = await nova.http.get<unknown>(
        `${nova.url('compute')}/servers/${server.id}/os-instance-actions`,
      );
      return z
        .object({
          instanceActions: z.array(z.looseObject({ action: z.string(), message: z.string().nullable() })),
        })
        .parse(data).instanceActions;
    };
    await waitFor(
      async () =>
        (await events()).some((found) => found.action === 'changePassword' && found.message === 'Error')
          ? true
          : null,
      30_000,
      () => 'changePassword was not refused',
    );
    await nova.waitForStatus(server.id, 'ACTIVE');
  });

  describe('that cannot be booted', () => {
    async function failed(id: string): Promise<Server> {
      const server = await nova.waitForStatus(id, 'ERROR');
      expect(await traces(nova, server)).toEqual([]);
      return server;
    }

    it('say that the image is no disk image', async () => {
      const bad = await nova.upload(
        'not-a-disk',
        'qcow2',
        Buffer.from('this is not a qcow2 image'.repeat(1000)),
      );
      try {
        const server = await failed(await boot('bad-image', bad));
        expect(server.fault?.message).toMatch(/qcow2/);
      } finally {
        await nova.deleteImage(bad);
      }
    });

    it('say that the image wants a file of the host', async () => {
      const path = join(CLOUD, 'images', 'evil.qcow2');
      await run('qemu-img', [
        'create',
        '-q',
        '-f',
        'qcow2',
        '-u',
        '-b',
        '/etc/shadow',
        '-F',
        'raw',
        path,
        '1M',
      ]);
      const { stdout } = await run('cat', [path], { encoding: 'buffer', maxBuffer: 16 << 20 });
      await run('rm', [path]);
      const evil = await nova.upload('evil', 'qcow2', stdout);
      try {
        const server = await failed(await boot('evil-image', evil));
        expect(server.fault?.message).toMatch(/backing file/);
      } finally {
        await nova.deleteImage(evil);
      }
    });

    it("say that the flavor's disk is too small for the image", async () => {
      const path = join(CLOUD, 'images', 'large.qcow2');
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '5G']);
      const { stdout } = await run('cat', [path], { encoding: 'buffer', maxBuffer: 16 << 20 });
      await run('rm', [path]);
      const large = await nova.upload('large', 'qcow2', stdout);
      try {
        const server = await failed(await boot('large-image', large));
        expect(server.fault?.message).toMatch(/disk is too small|smaller/i);
      } finally {
        await nova.deleteImage(large);
      }
    });

    it('find no host while libvirtd is down, and one again when it is back', async () => {
      await run(ALL_IN_ONE, ['stop', 'libvirtd']);
      try {
        await nova.waitForHostStatus('prebake', 'disabled');
        const server = await nova.waitForStatus(await boot('no-libvirt'), 'ERROR');
        expect(server.fault?.message).toMatch(/No valid host was found/);
      } finally {
        await run(ALL_IN_ONE, ['start', 'libvirtd']);
      }
      await waitForReady();
      await nova.waitForHostStatus('prebake', 'enabled');
      const [id = ''] = made;
      await waitFor(
        async () => ((await traces(nova, { id })).length === 0 ? true : null),
        30_000,
        () => 'the failed build left something behind',
      );
    });
  });

  it('leaves a build that the service did not survive in ERROR, with the reason and without traces', async () => {
    const id = await boot('killed');
    await waitFor(
      async () => ((await nova.show(id))?.['OS-EXT-STS:task_state'] === 'spawning' ? true : null),
      60_000,
      () => 'the build did not get to spawning',
    );
    await compute.kill();
    compute = await ComputeProcess.start();
    const server = await nova.waitForStatus(id, 'ERROR');
    expect(server.fault?.message).toMatch(/restarted while it was building/);
    expect((await traces(nova, server)).filter((trace) => trace !== 'allocation')).toEqual([]);
  });
});
