/** What a listener on the broker hears of a server's life, in both formats. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChannelModel, connect } from 'amqplib';
import { z } from 'zod';
import { Instance, novaTime } from '../../lib/objects';
import { CloudRpc } from '../support/cloud-rpc';
import { ComputeProcess } from '../support/compute-process';
import { NOVA_CONF, NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run } from '../support/servers';

const OPTIONS = `[oslo_messaging_notifications]
driver = messagingv2
[notifications]
notification_format = both
`;
/** What is done once a minute, the first time a minute after the service's start. */
const AUDITS = `[DEFAULT]
instance_usage_audit = True
instance_usage_audit_period = hour@${new Date().getUTCMinutes()}
rescue_timeout = 3600
`;
const QUEUES = [
  'notifications.info',
  'notifications.error',
  'versioned_notifications.info',
  'versioned_notifications.error',
];
const envelopeSchema = z.object({ 'oslo.version': z.literal('2.0'), 'oslo.message': z.string() });
const newsSchema = z.looseObject({
  message_id: z.string(),
  event_type: z.string(),
  publisher_id: z.string(),
  timestamp: z.string().regex(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$/),
  payload: z.looseObject({}),
  _context_request_id: z.string(),
});
type News = z.infer<typeof newsSchema>;

/** The server that one is about, in either format. */
function serverOf({ payload }: News): unknown {
  const versioned = payload['nova_object.data'] as Record<string, unknown> | undefined;
  return versioned?.uuid ?? payload.instance_id;
}

describe('notifications', () => {
  const heard: News[] = [];
  let nova: NovaApi;
  let compute: ComputeProcess;
  let directory: string;
  let broker: ChannelModel;

  beforeAll(async () => {
    nova = await NovaApi.login();
    directory = await mkdtemp(join(tmpdir(), 'prebake-notifications-'));
    const more = join(directory, 'more.conf');
    await writeFile(more, OPTIONS);
    const url = /^transport_url *= *rabbit(:.*)$/m.exec(await readFile(NOVA_CONF, 'utf8'))?.[1];
    broker = await connect(`amqp${url ?? ''}`);
    const channel = await broker.createChannel();
    for (const queue of QUEUES) {
      await channel.assertQueue(queue, { durable: false, autoDelete: false });
      await channel.purgeQueue(queue);
      await channel.consume(queue, (message) => {
        if (message === null) return;
        channel.ack(message);
        // Glance's come to the queues of these names, too.
        if (message.fields.exchange !== 'nova') return;
        const envelope = envelopeSchema.parse(JSON.parse(message.content.toString()));
        heard.push(newsSchema.parse(JSON.parse(envelope['oslo.message'])));
      });
    }
    compute = await ComputeProcess.start({ configFiles: [NOVA_CONF, more] });
    await run(ALL_IN_ONE, ['discover-hosts']);
  });
  afterAll(async () => {
    await compute.stop();
    await broker.close();
    await rm(directory, { recursive: true });
  });

  const about = (id: string, publisher: string): string[] =>
    heard
      .filter((news) => serverOf(news) === id && news.publisher_id === publisher)
      .map((news) => news.event_type);

  it('tell of a server from its creation to its end', async () => {
    const id = await nova.create({
      name: 'famous',
      image: await nova.imageId('tiny'),
      flavor: await nova.flavorId('m1.micro'),
    });
    await nova.waitForStatus(id, 'ACTIVE');
    await nova.action(id, { pause: null });
    await nova.waitForStatus(id, 'PAUSED');
    await nova.delete(id);
    await nova.waitForGone(id);
    const actions = ['create.start', 'create.end', 'pause.start', 'pause.end', 'delete.start', 'delete.end'];
    const legacy = actions.map((action) => `compute.instance.${action}`);
    const versioned = actions.map((action) => `instance.${action}`);
    await waitFor(
      () => Promise.resolve(about(id, 'nova-compute:prebake').length >= versioned.length ? true : null),
      30_000,
      () => `heard only ${about(id, 'nova-compute:prebake').join(', ')}`,
    );
    expect(about(id, 'nova-compute:prebake')).toEqual(versioned);
    expect(about(id, 'compute.prebake')).toEqual(legacy);
    const created = heard.find((news) => serverOf(news) === id && news.event_type === 'instance.create.end');
    expect(created?.payload).toMatchObject({
      'nova_object.name': 'InstanceCreatePayload',
      'nova_object.data': {
        display_name: 'famous',
        state: 'active',
        host: 'prebake',
        power_state: 'running',
      },
    });
  });

  it('tell of the use of a period, in which one was rescued for too long', async () => {
    const image = await nova.imageId('tiny');
    const id = await nova.create({ name: 'used', image, flavor: await nova.flavorId('m1.micro') });
    const rpc = await CloudRpc.connect();
    try {
      await nova.waitForStatus(id, 'ACTIVE');
      await nova.action(id, { rescue: {} });
      await nova.waitForStatus(id, 'RESCUE');
      const record = await rpc.find(Instance, ['Instance', 'get_by_uuid'], [id]);
      record.set('launched_at', novaTime(new Date(Date.now() - 3 * 60 * 60_000)));
      await rpc.save(record);
      // The rescue itself has told of the use up to then.
      const before = heard.length;
      const audits = join(directory, 'audits.conf');
      await writeFile(audits, AUDITS);
      await compute.stop();
      compute = await ComputeProcess.start({
        configFiles: [NOVA_CONF, join(directory, 'more.conf'), audits],
      });
      const told = (): News[] =>
        heard
          .slice(before)
          .filter((news) => serverOf(news) === id && news.event_type.endsWith('instance.exists'));
      await waitFor(
        () => Promise.resolve(told().length === 2 ? true : null),
        120_000,
        () => 'its use was not told of',
      );
      const [legacy, versioned] = told().sort((a, b) => a.event_type.localeCompare(b.event_type));
      expect(legacy).toMatchObject({
        event_type: 'compute.instance.exists',
        payload: {
          audit_period_beginning: expect.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:00$/) as string,
        },
      });
      expect(versioned?.payload).toMatchObject({
        'nova_object.name': 'InstanceExistsPayload',
        'nova_object.data': { audit_period: { 'nova_object.name': 'AuditPeriodPayload' } },
      });
      await nova.waitForStatus(id, 'ACTIVE');
    } finally {
      await rpc.close();
      await nova.delete(id);
      await nova.waitForGone(id);
    }
  });

  it('tell of a server that could not be made', async () => {
    const image = await nova.upload('no image at all', 'qcow2', Buffer.alloc(4096, 1));
    try {
      const id = await nova.create({ name: 'infamous', image, flavor: await nova.flavorId('m1.micro') });
      await nova.waitForStatus(id, 'ERROR');
      await waitFor(
        () => Promise.resolve(about(id, 'compute.prebake').includes('compute.instance.create.error') || null),
        30_000,
        () => 'heard of no error',
      );
      expect(about(id, 'nova-compute:prebake')).toEqual(['instance.create.start', 'instance.create.error']);
      await nova.delete(id);
      await nova.waitForGone(id);
    } finally {
      await nova.deleteImage(image);
    }
  });
});
