/**
 * Serves a topic: consumes its three queues, acknowledges before it dispatches (as oslo does: a request that kills the
 * service must not come again), runs handlers side by side and sends their answers.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Channel } from 'amqplib';
import type { Logger } from 'pino';
import { describeError, NovaException } from '../exceptions';
import { logAbout } from '../log';
import type { BrokerConnection, Session } from './connection';
import { Acknowledger } from './acknowledger';
import { RequestContext } from './context';
import { findHandler } from './dispatcher';
import { decodeRequest, encode, newId, type Request } from './envelope';
import { isRemoteError, MessagingClosed } from './errors';
import { RpcDispatchError, serialiseFailure } from './failure';
import type { Publisher } from './publisher';
import { RecentIds } from './recent-ids';
import { TRANSIENT_QUEUE_TTL_MS } from './rpc-client';
import type { RpcServer, ServeOptions } from './types';

/** How long a reply waits for its reply queue to come back; oslo's kombu_missing_consumer_retry_timeout. */
const REPLY_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 10_000;
const REMEMBERED_REQUESTS = 1_000;

interface ServerOptions extends ServeOptions {
  readonly exchange: string;
  readonly durable: boolean;
  readonly logger: Logger;
}

/** Starts serving; resolves when the queues exist and are consumed. */
export async function startServer(
  connection: BrokerConnection,
  publisher: Publisher,
  options: ServerOptions,
): Promise<RpcServer> {
  const server = new TopicServer(publisher, options);
  const attachment = connection.attach((session) => server.consume(session));
  await attachment.ready;
  return {
    stop: async (deadlineMs = STOP_DEADLINE_MS) => {
      await server.stop(deadlineMs);
      attachment.detach();
    },
  };
}

class TopicServer {
  private readonly fanoutQueue: string;
  private readonly recent = new RecentIds(REMEMBERED_REQUESTS);
  private readonly running = new Set<Promise<void>>();
  private channel: Channel | null = null;
  private consumerTags: string[] = [];
  private stopping = false;

  constructor(
    private readonly publisher: Publisher,
    private readonly options: ServerOptions,
  ) {
    this.fanoutQueue = `${options.topic}_fanout_${newId()}`;
  }

  async consume(session: Session): Promise<void> {
    const { exchange, topic, host, durable } = this.options;
    const channel = await session.openChannel();
    const acknowledger = new Acknowledger(channel);
    const consumerTags: string[] = [];
    const consume = async (queue: string) => {
      const { consumerTag } = await channel.consume(queue, (message) => {
        if (message === null) {
          // The broker deleted the queue; an error on the channel makes the connection anew.
          channel.emit('error', new Error(`the queue ${queue} was deleted`));
          return;
        }
        const request = this.decode(message.content);
        // Not acknowledged: it is back in its queue when the channel closes.
        if (request !== null && !this.admits(request)) {
          acknowledger.keep();
          return;
        }
        acknowledger.ack(message);
        if (request !== null) this.receive(request);
      });
      consumerTags.push(consumerTag);
    };
    await channel.assertExchange(exchange, 'topic', { durable, autoDelete: false });
    for (const queue of [topic, `${topic}.${host}`]) {
      await channel.assertQueue(queue, { durable, autoDelete: false });
      await channel.bindQueue(queue, exchange, queue);
      await consume(queue);
    }
    const fanout = `${topic}_fanout`;
    await channel.assertExchange(fanout, 'fanout', { durable: false, autoDelete: true });
    await channel.assertQueue(this.fanoutQueue, {
      durable: false,
      autoDelete: false,
      arguments: { 'x-expires': TRANSIENT_QUEUE_TTL_MS },
    });
    await channel.bindQueue(this.fanoutQueue, fanout, topic);
    await consume(this.fanoutQueue);
    this.channel = channel;
    this.consumerTags = consumerTags;
  }

  async stop(deadlineMs: number): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    const timer = new AbortController();
    await Promise.race([
      this.idle(),
      delay(deadlineMs, undefined, { signal: timer.signal }).catch(() => undefined),
    ]);
    timer.abort();
    const { channel } = this;
    if (channel !== null) {
      // Without a connection there is nothing to cancel, and the fanout queue expires by itself.
      await Promise.all(this.consumerTags.map((tag) => channel.cancel(tag)))
        .then(() => channel.deleteQueue(this.fanoutQueue))
        .then(() => channel.close())
        .catch((error: unknown) => {
          this.options.logger.debug(`could not take leave of the broker: ${describeError(error)}`);
        });
    }
    if (this.running.size > 0) {
      this.options.logger.warn({ requests: this.running.size }, 'stopped with requests still running');
    }
  }

  private async idle(): Promise<void> {
    while (this.running.size > 0) await Promise.all(this.running);
  }

  private admits({ method }: Request): boolean {
    return !this.stopping || (this.options.servedWhileStopping ?? []).includes(method);
  }

  private decode(content: Buffer): Request | null {
    try {
      return decodeRequest(content);
    } catch (error) {
      this.options.logger.warn(`dropped a request: ${describeError(error)}`);
      return null;
    }
  }

  private receive(request: Request): void {
    const { logger } = this.options;
    if (request._unique_id !== undefined && !this.recent.add(request._unique_id)) {
      logger.warn({ method: request.method }, 'dropped a request that was delivered twice');
      return;
    }
    const serving = this.serveRequest(request).catch((error: unknown) => {
      logger.error({ err: error, method: request.method }, 'a request could not be answered');
    });
    this.running.add(serving);
    void serving.finally(() => this.running.delete(serving));
  }

  private async serveRequest(request: Request): Promise<void> {
    const context = RequestContext.fromMessage(request);
    const msgId = request._msg_id;
    const replyQueue = request._reply_q;
    const reply = msgId !== null && replyQueue !== null ? { msgId, replyQueue } : null;
    const heartbeat = reply === null ? null : this.startHeartbeat(request, reply);
    const body = (outcome: Record<string, unknown>) => replyBody(reply?.msgId ?? '', outcome);
    let content: Buffer;
    try {
      const handler = findHandler(this.options.endpoints, request);
      const { method, version } = request;
      const kind = reply === null ? 'cast' : 'call';
      const result = await handler(context, request.args, { kind, method, version });
      content = body({ result: result ?? null, failure: null, ending: true });
    } catch (error) {
      this.logFailure(request, context, error);
      const failure = serialiseFailure(error, context.requestId);
      content = body({ result: null, failure, ending: true });
    } finally {
      clearInterval(heartbeat ?? undefined);
    }
    if (reply !== null) await this.reply(reply.replyQueue, content, REPLY_DEADLINE_MS);
  }

  /** Signs of life for a caller that asked for them: twice in the time it gave, as oslo sends them. */
  private startHeartbeat(
    request: Request,
    reply: { readonly msgId: string; readonly replyQueue: string },
  ): NodeJS.Timeout | null {
    const timeoutS = Math.trunc(request._timeout ?? 0);
    if (timeoutS < 2) return null;
    const intervalMs = (timeoutS * 1000) / 2;
    return setInterval(() => {
      const content = replyBody(reply.msgId, { result: null, failure: null, ending: false });
      this.reply(reply.replyQueue, content, intervalMs).catch((error: unknown) => {
        this.options.logger.debug(`a sign of life was not sent: ${describeError(error)}`);
      });
    }, intervalMs);
  }

  private async reply(replyQueue: string, content: Buffer, deadlineMs: number): Promise<void> {
    const route = { kind: 'queue', queue: replyQueue } as const;
    try {
      await this.publisher.publish({ route, content, deadlineMs }).done;
    } catch (error) {
      if (!(error instanceof MessagingClosed)) throw error;
      this.options.logger.warn('a reply was not sent: the service is stopping');
    }
  }

  private logFailure(request: Request, context: RequestContext, error: unknown): void {
    const log = logAbout(this.options.logger, { context });
    const { method } = request;
    const known = error instanceof NovaException || error instanceof RpcDispatchError || isRemoteError(error);
    if (known) log.warn(`${method} failed: ${describeError(error)}`);
    else log.error({ err: error }, `${method} failed unexpectedly`);
  }
}

function replyBody(msgId: string, outcome: Record<string, unknown>): Buffer {
  return encode({ ...outcome, _msg_id: msgId, _unique_id: newId() });
}
