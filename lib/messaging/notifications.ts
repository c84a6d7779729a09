/**
 * Hears the notifications of another service, such as Glance's of new images, in a queue of its own: whoever else consumes
 * the service's own queues misses nothing. On a connection of its own, so that a broker that refuses this refuses nothing
 * else. What is missed while this host is down for long is gone; who relies on it has to look for itself now and then.
 */
import type { Logger } from 'pino';
import { z } from 'zod';
import { describeError } from '../exceptions';
import { BrokerConnection, type Session } from './connection';
import { decodeBody } from './envelope';
import { parseTransportUrl } from './transport-url';
import type { MessagingOptions } from './types';

/** The broker forgets the queue of a host that has been away for this long. */
const QUEUE_TTL_MS = 3600_000;
const PREFETCH = 50;

const notificationSchema = z.looseObject({
  event_type: z.string(),
  publisher_id: z.string().optional(),
  payload: z.unknown(),
});
/** A notification as oslo.messaging sends it. */
export type Notification = z.infer<typeof notificationSchema>;

export interface NotificationOptions extends Pick<
  MessagingOptions,
  'transportUrl' | 'connectionName' | 'heartbeatS' | 'logger' | 'durableQueues' | 'tls'
> {
  /** Control exchange of the service: `glance`. */
  readonly exchange: string;
  /** Its topic with the priority: `notifications.info`. */
  readonly routingKey: string;
  /** Name of our queue. */
  readonly queue: string;
  readonly onNotification: (notification: Notification) => void;
}

/** Listens until it is closed. */
export class NotificationListener {
  private constructor(
    private readonly connection: BrokerConnection,
    private readonly logger: Logger,
  ) {}

  /** Returns at once; connects, and tries again, in the background. */
  static start(options: NotificationOptions): NotificationListener {
    const connection = new BrokerConnection({
      address: parseTransportUrl(options.transportUrl),
      name: options.connectionName,
      purpose: `notifications of ${options.exchange}`,
      heartbeatS: options.heartbeatS,
      tls: options.tls ?? null,
      logger: options.logger,
    });
    const listener = new NotificationListener(connection, options.logger);
    connection.attach((session) => listener.consume(session, options)).ready.catch(() => undefined);
    connection.start().catch(() => undefined);
    return listener;
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  private async consume(session: Session, options: NotificationOptions): Promise<void> {
    const { exchange, routingKey, queue, durableQueues: durable = false } = options;
    const channel = await session.openChannel();
    await channel.prefetch(PREFETCH);
    await channel.assertExchange(exchange, 'topic', { durable, autoDelete: false });
    await channel.assertQueue(queue, {
      durable,
      autoDelete: false,
      arguments: { 'x-expires': QUEUE_TTL_MS },
    });
    await channel.bindQueue(queue, exchange, routingKey);
    await channel.consume(queue, (message) => {
      if (message === null) {
        channel.emit('error', new Error(`the queue ${queue} was deleted`));
        return;
      }
      channel.ack(message);
      this.take(message.content, options.onNotification);
    });
  }

  private take(content: Buffer, onNotification: (notification: Notification) => void): void {
    try {
      onNotification(notificationSchema.parse(decodeBody(content)));
    } catch (error) {
      this.logger.warn(`dropped a notification: ${describeError(error)}`);
    }
  }
}
