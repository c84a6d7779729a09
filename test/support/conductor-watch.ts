/**
 * Listens to what the service tells nova-conductor: the beginnings of its operations and the states it saves. Tests know from
 * it how far an operation has come, without the service knowing of them.
 */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type ChannelModel, connect } from 'amqplib';
import { z } from 'zod';
import { parseTransportUrl } from '../../lib/messaging';
import { NOVA_CONF } from './nova-api';

const envelopeSchema = z.object({ 'oslo.message': z.string() });
const eventSchema = z.object({
  method: z.literal('object_class_action_versions'),
  args: z.looseObject({
    objmethod: z.literal('event_start'),
    args: z.tuple([z.string(), z.string()]),
  }),
});
const saveSchema = z.object({
  method: z.literal('object_action'),
  args: z.looseObject({
    objmethod: z.literal('save'),
    objinst: z.object({
      'nova_object.name': z.literal('Instance'),
      'nova_object.data': z.looseObject({ uuid: z.string(), task_state: z.string().nullish() }),
      'nova_object.changes': z.array(z.string()).default([]),
    }),
  }),
});

/** What happens to one server: `compute_stop_instance` (an operation begins) or `spawning` (a task state is saved). */
export class ConductorWatch {
  private listener: ((uuid: string, what: string) => void) | null = null;

  private constructor(private readonly connection: ChannelModel) {}

  /** Copies of the messages to the conductor come to a queue of our own. */
  static async start(): Promise<ConductorWatch> {
    const url = /^transport_url *= *(\S+)/m.exec(await readFile(NOVA_CONF, 'utf8'))?.[1] ?? '';
    const { hosts, virtualHost } = parseTransportUrl(url);
    const [{ hostname, port, username, password }] = hosts;
    const connection = await connect({
      protocol: 'amqp',
      hostname,
      port,
      username,
      password,
      vhost: virtualHost,
    });
    const watch = new ConductorWatch(connection);
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue(`prebake-test-${randomUUID()}`, {
      exclusive: true,
      autoDelete: true,
    });
    await channel.bindQueue(queue, 'nova', 'conductor');
    await channel.consume(queue, (message) => message !== null && watch.take(message.content), {
      noAck: true,
    });
    return watch;
  }

  /** Runs `then` in the instant it happens to the server; rejects when it does not happen in time. */
  async when(uuid: string, what: string, timeoutMs: number, then: () => Promise<void>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`server ${uuid}: no ${what} after ${timeoutMs} ms`)),
        timeoutMs,
      );
    });
    const happened = new Promise<void>((resolve) => {
      this.listener = (whose, which) => {
        if (whose !== uuid || which !== what) return;
        this.listener = null;
        resolve(then());
      };
    });
    try {
      await Promise.race([happened, late]);
    } finally {
      clearTimeout(timer);
      this.listener = null;
    }
  }

  async stop(): Promise<void> {
    await this.connection.close();
  }

  private take(content: Buffer): void {
    const envelope = envelopeSchema.safeParse(parseJson(content.toString()));
    const message = parseJson(envelope.data?.['oslo.message'] ?? 'null');
    const event = eventSchema.safeParse(message);
    if (event.success) {
      this.listener?.(...event.data.args.args);
      return;
    }
    const save = saveSchema.safeParse(message);
    if (!save.success) return;
    const { 'nova_object.data': fields, 'nova_object.changes': changes } = save.data.args.objinst;
    if (changes.includes('task_state')) this.listener?.(fields.uuid, fields.task_state ?? 'none');
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
