/**
 * Listens on the broker beside the services of the cloud: when was a boot published, when was its end saved, and which address
 * did its host write down for it? Asking the API would take the time of those that are measured.
 */
import { randomUUID } from 'node:crypto';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { z } from 'zod';
import { parseTransportUrl } from '../../lib/messaging';

const envelopeSchema = z.object({ 'oslo.message': z.string() });
const instanceSchema = z.object({
  'nova_object.data': z.looseObject({ uuid: z.string(), vm_state: z.string().nullish() }),
  'nova_object.changes': z.array(z.string()).optional(),
});
const networkSchema = z.array(
  z.object({
    network: z.object({ subnets: z.array(z.object({ ips: z.array(z.object({ address: z.string() })) })) }),
  }),
);
const networkCacheSchema = z.object({
  'nova_object.name': z.literal('InstanceInfoCache'),
  'nova_object.data': z.looseObject({ instance_uuid: z.string(), network_info: z.string() }),
});
const messageSchema = z.union([
  z.object({
    method: z.literal('object_action'),
    args: z.looseObject({ objmethod: z.literal('save'), objinst: networkCacheSchema }),
  }),
  z.object({
    method: z.literal('build_and_run_instance'),
    args: z.looseObject({ instance: instanceSchema }),
  }),
  z.object({
    method: z.literal('object_action'),
    args: z.looseObject({ objmethod: z.literal('save'), objinst: instanceSchema }),
  }),
]);

/**
 * published: nova-conductor has sent the boot to the host; addressed: the host has asked for the server's network to be saved;
 * saved: it has asked for vm_state active to be saved.
 */
type Moment = 'published' | 'addressed' | 'saved';

/** Times of the performance clock, by server. */
export class BusWatch {
  private readonly addresses = new Map<string, string>();
  private readonly moments = new Map<string, number>();
  private readonly waiting = new Map<string, (atMs: number) => void>();

  private constructor(private readonly connection: ChannelModel) {}

  /** Copies of the messages to these hosts and to the conductor come to a queue of our own. */
  static async start(transportUrl: string, hosts: readonly string[]): Promise<BusWatch> {
    const { hosts: brokers, virtualHost } = parseTransportUrl(transportUrl);
    const [{ hostname, port, username, password }] = brokers;
    const connection = await connect({
      protocol: 'amqp',
      hostname,
      port,
      username,
      password,
      vhost: virtualHost,
    });
    const watch = new BusWatch(connection);
    const channel: Channel = await connection.createChannel();
    const queue = `prebake-bench-${randomUUID()}`;
    await channel.assertQueue(queue, { exclusive: true, autoDelete: true });
    for (const key of [...hosts.map((host) => `compute.${host}`), 'conductor']) {
      await channel.bindQueue(queue, 'nova', key);
    }
    await channel.consume(
      queue,
      (message) => {
        if (message !== null) watch.take(message.content, performance.now());
      },
      { noAck: true },
    );
    return watch;
  }

  /** When it happened; rejects when it does not happen in time. */
  async moment(uuid: string, moment: Moment, timeoutMs: number): Promise<number> {
    const key = `${moment} ${uuid}`;
    const known = this.moments.get(key);
    if (known !== undefined) return known;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`server ${uuid}: not ${moment} after ${timeoutMs} ms`)),
        timeoutMs,
      );
      this.waiting.set(key, (atMs) => {
        clearTimeout(timer);
        resolve(atMs);
      });
    });
  }

  /** The server's first address, as soon as its host has saved it; rejects when it does not in time. */
  async address(uuid: string, timeoutMs: number): Promise<string> {
    await this.moment(uuid, 'addressed', timeoutMs);
    return this.addresses.get(uuid) ?? '';
  }

  async stop(): Promise<void> {
    await this.connection.close();
  }

  private take(content: Buffer, atMs: number): void {
    const envelope = envelopeSchema.safeParse(parseJson(content.toString()));
    const message = messageSchema.safeParse(parseJson(envelope.data?.['oslo.message'] ?? 'null'));
    if (!message.success) return;
    const { data } = message;
    if (data.method === 'build_and_run_instance') {
      this.happened('published', data.args.instance['nova_object.data'].uuid, atMs);
      return;
    }
    const { objinst } = data.args;
    if ('nova_object.name' in objinst) {
      const { instance_uuid: uuid, network_info: info } = objinst['nova_object.data'];
      const address = networkSchema.safeParse(parseJson(info)).data?.[0]?.network.subnets[0]?.ips[0]?.address;
      if (address === undefined) return;
      this.addresses.set(uuid, address);
      this.happened('addressed', uuid, atMs);
      return;
    }
    const { 'nova_object.data': fields, 'nova_object.changes': changes = [] } = objinst;
    if (fields.vm_state === 'active' && changes.includes('vm_state'))
      this.happened('saved', fields.uuid, atMs);
  }

  private happened(moment: Moment, uuid: string, atMs: number): void {
    const key = `${moment} ${uuid}`;
    if (this.moments.has(key)) return;
    this.moments.set(key, atMs);
    this.waiting.get(key)?.(atMs);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
