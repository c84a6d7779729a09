/**
 * Sends messages so that none is lost by a broken connection: each stays here until the broker has confirmed it, and is
 * sent again, unchanged, on the next connection. Receivers drop what they get twice by its `_unique_id`.
 */
import type { ConfirmChannel, Message, Options } from 'amqplib';
import type { Logger } from 'pino';
import type { BrokerConnection, Session } from './connection';
import { deferred } from './deferred';
import { MessageUndeliverable, MessagingClosed, MessagingTimeout } from './errors';

/** A broker that has not confirmed for this long is not going to: the connection is made anew. */
const CONFIRM_TIMEOUT_MS = 30_000;
/** Pause before a message that no queue took is sent again; oslo.messaging's. */
const RETRY_MS = 250;

/** Where a message goes. */
export type Route =
  /** Straight into a queue by its name. */
  | { readonly kind: 'queue'; readonly queue: string }
  /** To the queues bound to a topic exchange with `key`. */
  | { readonly kind: 'topic'; readonly exchange: string; readonly key: string }
  /** The same, into a queue of that name, which is made for whoever comes to read it later. */
  | { readonly kind: 'notification'; readonly exchange: string; readonly key: string }
  /** To all queues of a fanout exchange, if any. */
  | { readonly kind: 'fanout'; readonly exchange: string };

export interface Outgoing {
  readonly route: Route;
  readonly content: Buffer;
  /** The broker throws the message away when nobody took it for this long. */
  readonly expirationMs?: number;
  /** How long to go on trying to get it into a queue. */
  readonly deadlineMs: number;
}

/** A message on its way. */
export interface Publication {
  /** Resolves when the broker has it; rejects with MessagingTimeout, MessageUndeliverable or MessagingClosed. */
  readonly done: Promise<unknown>;
  /** Stops trying; `done` then resolves. */
  cancel(): void;
}

interface Entry {
  readonly message: Outgoing;
  readonly finish: (error?: Error) => void;
  /** Sent on the present channel and not confirmed yet. */
  sentOn: ConfirmChannel | null;
  /** The broker gave it back: no queue was bound. */
  returned: boolean;
  confirmTimer?: NodeJS.Timeout;
  retryTimer?: NodeJS.Timeout;
}

/** See the top of the file. */
export class Publisher {
  private readonly entries = new Set<Entry>();
  private channel: ConfirmChannel | null = null;
  private declared = new Map<string, Promise<unknown>>();
  private closed = false;
  private drained: (() => void) | null = null;

  constructor(
    private readonly connection: BrokerConnection,
    private readonly options: { readonly durable: boolean; readonly logger: Logger },
  ) {
    connection.attach((session) => this.prepare(session)).ready.catch(() => undefined);
  }

  /** Starts sending a message, now or when there is a connection again. */
  publish(message: Outgoing): Publication {
    const settled = deferred<undefined>();
    if (this.closed) {
      settled.reject(new MessagingClosed());
      return { done: settled.promise, cancel: () => undefined };
    }
    const deadline = setTimeout(() => {
      const to = describeRoute(message.route);
      entry.finish(
        entry.returned
          ? new MessageUndeliverable(`nobody listens at ${to}`)
          : new MessagingTimeout(`the broker did not take a message to ${to} in ${message.deadlineMs} ms`),
      );
    }, message.deadlineMs);
    const entry: Entry = {
      message,
      sentOn: null,
      returned: false,
      finish: (error) => {
        if (!this.entries.delete(entry)) return;
        clearTimeout(deadline);
        clearTimeout(entry.confirmTimer);
        clearTimeout(entry.retryTimer);
        if (error === undefined) settled.resolve(undefined);
        else settled.reject(error);
        if (this.entries.size === 0) this.drained?.();
      },
    };
    this.entries.add(entry);
    this.send(entry);
    return { done: settled.promise, cancel: () => entry.finish() };
  }

  /** Waits for confirmations, then fails what is left. */
  async close(timeoutMs: number): Promise<void> {
    this.closed = true;
    if (this.entries.size > 0 && this.channel !== null) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.drained = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    for (const entry of [...this.entries]) entry.finish(new MessagingClosed());
  }

  private async prepare(session: Session): Promise<void> {
    const channel = await session.openConfirmChannel();
    channel.on('return', (message: Message) => this.onReturned(channel, message));
    channel.on('close', () => {
      if (this.channel === channel) this.channel = null;
    });
    this.channel = channel;
    this.declared = new Map();
    for (const entry of this.entries) {
      clearTimeout(entry.confirmTimer);
      entry.sentOn = null;
      this.send(entry);
    }
  }

  private send(entry: Entry): void {
    const { channel } = this;
    if (channel === null) return;
    const declared = this.declareExchange(channel, entry.message.route);
    if (declared === null) {
      this.sendOn(channel, entry);
      return;
    }
    declared.then(
      () => this.sendOn(channel, entry),
      // The channel is closed with this error: the connection is being made anew, and the message sent again on it.
      () => undefined,
    );
  }

  private sendOn(channel: ConfirmChannel, entry: Entry): void {
    if (this.channel !== channel || entry.sentOn !== null || !this.entries.has(entry)) return;
    const { route, content, expirationMs } = entry.message;
    const options: Options.Publish = {
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      deliveryMode: 2,
      priority: 0,
      headers: {},
      // oslo's fanouts may reach nobody; anything else that reaches nobody is told to us.
      mandatory: route.kind !== 'fanout',
      ...(expirationMs === undefined ? {} : { expiration: String(Math.round(expirationMs)) }),
    };
    const exchange = route.kind === 'queue' ? '' : route.exchange;
    const key = route.kind === 'queue' ? route.queue : route.kind === 'fanout' ? '' : route.key;
    entry.returned = false;
    entry.sentOn = channel;
    entry.confirmTimer = setTimeout(() => {
      if (this.channel === channel) this.connection.drop('the broker does not confirm messages');
    }, CONFIRM_TIMEOUT_MS);
    try {
      channel.publish(exchange, key, content, options, (error: unknown) => {
        this.onConfirmed(entry, channel, error === null || error === undefined);
      });
    } catch {
      // The channel was closed under us; the next one sends it.
      clearTimeout(entry.confirmTimer);
      entry.sentOn = null;
    }
  }

  private onConfirmed(entry: Entry, channel: ConfirmChannel, accepted: boolean): void {
    if (entry.sentOn !== channel) return;
    clearTimeout(entry.confirmTimer);
    if (accepted && !entry.returned) {
      entry.finish();
      return;
    }
    entry.sentOn = null;
    if (this.entries.has(entry)) entry.retryTimer = setTimeout(() => this.send(entry), RETRY_MS);
  }

  private onReturned(channel: ConfirmChannel, message: Message): void {
    for (const entry of this.entries) {
      if (entry.sentOn === channel && entry.message.content.equals(message.content)) {
        if (!entry.returned) {
          const to = describeRoute(entry.message.route);
          this.options.logger.debug(`nobody listens at ${to} yet; the message is sent again`);
        }
        entry.returned = true;
        return;
      }
    }
  }

  /** Declares the exchange unless that was done on this channel; null when nothing has to be waited for. */
  private declareExchange(channel: ConfirmChannel, route: Route): Promise<unknown> | null {
    if (route.kind === 'queue') return null;
    if (route.kind === 'fanout') {
      // Deleted by the broker with its last queue, so it may be gone at any time.
      return channel.assertExchange(route.exchange, 'fanout', { durable: false, autoDelete: true });
    }
    const { exchange, key, kind } = route;
    const declaration = kind === 'notification' ? `${exchange} ${key}` : exchange;
    const known = this.declared.get(declaration);
    if (known !== undefined) return known;
    const options = { durable: this.options.durable, autoDelete: false };
    let declaring: Promise<unknown> = channel.assertExchange(exchange, 'topic', options);
    if (kind === 'notification') {
      declaring = declaring
        .then(() => channel.assertQueue(key, options))
        .then(() => channel.bindQueue(key, exchange, key));
    }
    this.declared.set(declaration, declaring);
    return declaring;
  }
}

function describeRoute(route: Route): string {
  return route.kind === 'queue' ? route.queue : route.kind === 'fanout' ? route.exchange : route.key;
}
