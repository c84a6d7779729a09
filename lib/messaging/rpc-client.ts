/** Calls and casts to other services, and the reply queue on which answers to calls come back. */
import type { ConsumeMessage } from 'amqplib';
import type { Logger } from 'pino';
import { describeError } from '../exceptions';
import { Acknowledger } from './acknowledger';
import type { BrokerConnection, Session } from './connection';
import { deferred } from './deferred';
import { decodeReply, encode, newId, type Reply } from './envelope';
import { MessagingClosed, MessagingTimeout } from './errors';
import { deserialiseFailure } from './failure';
import type { Publication, Publisher, Route } from './publisher';
import { RecentIds } from './recent-ids';
import type { CallOptions, CastOptions, Target } from './types';

/** oslo's rabbit_transient_queues_ttl: an abandoned reply or fanout queue lives this long. */
export const TRANSIENT_QUEUE_TTL_MS = 1_800_000;
/** How long a cast is tried; oslo's kombu_missing_consumer_retry_timeout. */
const CAST_DEADLINE_MS = 60_000;
const REMEMBERED_REPLIES = 1_000;

interface Waiter {
  onReply(reply: Reply): void;
  fail(error: Error): void;
}

/** See the top of the file. */
export class RpcClient {
  private readonly replyQueue = `reply_${newId()}`;
  private readonly waiters = new Map<string, Waiter>();
  private readonly recent = new RecentIds(REMEMBERED_REPLIES);
  private closed = false;

  constructor(
    connection: BrokerConnection,
    private readonly publisher: Publisher,
    private readonly logger: Logger,
  ) {
    connection.attach((session) => this.consumeReplies(session)).ready.catch(() => undefined);
  }

  /** See Messaging.call. */
  async call(
    target: Target,
    method: string,
    args: Record<string, unknown>,
    options: CallOptions,
  ): Promise<unknown> {
    if (this.closed) throw new MessagingClosed();
    const msgId = newId();
    const monitorMs = options.monitorTimeoutMs;
    const content = encode({
      ...requestBody(target, method, args, options),
      _msg_id: msgId,
      _reply_q: this.replyQueue,
      _timeout: monitorMs === undefined ? null : Math.ceil(monitorMs / 1000),
    });
    const settled = deferred<unknown>();
    const what = `${method} of ${routeKey(target)}`;
    const expire = (waitedMs: number) => () =>
      settled.reject(new MessagingTimeout(`no answer to ${what} in ${waitedMs} ms`));
    const timers = {
      overall: setTimeout(expire(options.timeoutMs), options.timeoutMs),
      monitor: monitorMs === undefined ? undefined : setTimeout(expire(monitorMs), monitorMs),
    };
    // Old servers send the result first and a bare `ending` after it.
    let result: unknown = null;
    this.waiters.set(msgId, {
      onReply: (reply) => {
        if (reply.failure !== null) {
          settled.reject(deserialiseFailure(reply.failure));
          return;
        }
        result = reply.result ?? result;
        if (reply.ending) settled.resolve(result);
        else timers.monitor?.refresh();
      },
      fail: (error) => settled.reject(error),
    });
    let publication: Publication | undefined;
    try {
      publication = this.publisher.publish({
        route: topicRoute(target),
        content,
        expirationMs: options.timeoutMs,
        deadlineMs: options.timeoutMs,
      });
      publication.done.catch((error: unknown) =>
        settled.reject(
          error instanceof MessagingClosed
            ? error
            : new MessagingTimeout(`no answer to ${what}: ${describeError(error)}`, error),
        ),
      );
      return await settled.promise;
    } finally {
      publication?.cancel();
      this.waiters.delete(msgId);
      clearTimeout(timers.overall);
      clearTimeout(timers.monitor);
    }
  }

  /** See Messaging.cast. */
  cast(target: Target, method: string, args: Record<string, unknown>, options: CastOptions): Promise<void> {
    return this.send(topicRoute(target), requestBody(target, method, args, options));
  }

  /** See Messaging.fanout. */
  fanout(target: Target, method: string, args: Record<string, unknown>, options: CastOptions): Promise<void> {
    return this.send(
      { kind: 'fanout', exchange: `${target.topic}_fanout` },
      requestBody(target, method, args, options),
    );
  }

  /** Fails all calls that wait. */
  close(): void {
    this.closed = true;
    for (const waiter of this.waiters.values()) waiter.fail(new MessagingClosed());
  }

  private async send(route: Route, body: Record<string, unknown>): Promise<void> {
    await this.publisher.publish({ route, content: encode(body), deadlineMs: CAST_DEADLINE_MS }).done;
  }

  private async consumeReplies(session: Session): Promise<void> {
    const channel = await session.openChannel();
    const acknowledger = new Acknowledger(channel);
    await channel.assertQueue(this.replyQueue, {
      durable: false,
      autoDelete: false,
      arguments: { 'x-expires': TRANSIENT_QUEUE_TTL_MS },
    });
    await channel.consume(this.replyQueue, (message) => {
      if (message === null) {
        // The broker deleted the queue; an error on the channel makes the connection anew.
        channel.emit('error', new Error('the reply queue was deleted'));
        return;
      }
      acknowledger.ack(message);
      this.onMessage(message);
    });
  }

  private onMessage(message: ConsumeMessage): void {
    let reply: Reply;
    try {
      reply = decodeReply(message.content);
    } catch (error) {
      this.logger.warn(`dropped a reply: ${describeError(error)}`);
      return;
    }
    if (reply._unique_id !== undefined && !this.recent.add(reply._unique_id)) return;
    const waiter = this.waiters.get(reply._msg_id);
    if (waiter === undefined) {
      this.logger.debug({ msgId: reply._msg_id }, 'a reply came that nobody waits for');
      return;
    }
    waiter.onReply(reply);
  }
}

function routeKey(target: Target): string {
  return target.server === undefined ? target.topic : `${target.topic}.${target.server}`;
}

function topicRoute(target: Target): Route {
  return { kind: 'topic', exchange: target.exchange ?? 'nova', key: routeKey(target) };
}

function requestBody(
  target: Target,
  method: string,
  args: Record<string, unknown>,
  options: CastOptions,
): Record<string, unknown> {
  return {
    method,
    args,
    ...(target.namespace === undefined ? {} : { namespace: target.namespace }),
    version: target.version,
    _unique_id: newId(),
    ...options.context.toMessage(),
  };
}
