/** The face of the messaging: one object to serve a topic and to call others. */
import { BrokerConnection } from './connection';
import { MessagingClosed } from './errors';
import { Notifier } from './notifier';
import { Publisher } from './publisher';
import { RpcClient } from './rpc-client';
import { startServer } from './rpc-server';
import { parseTransportUrl } from './transport-url';
import type {
  CallOptions,
  CastOptions,
  MessagingOptions,
  MessagingState,
  RpcServer,
  ServeOptions,
  Target,
} from './types';

/** How long `close` waits for messages that the broker has not confirmed yet. */
const FLUSH_TIMEOUT_MS = 5_000;

/**
 * oslo.messaging over two connections, one that consumes and one that publishes: a publisher that the broker throttles
 * must not keep requests and replies from coming in.
 */
export class Messaging {
  private readonly listeners = new Set<(state: MessagingState) => void>();
  private lastState: MessagingState = 'reconnecting';
  private closed = false;

  private constructor(
    private readonly options: MessagingOptions,
    private readonly consuming: BrokerConnection,
    private readonly publishing: BrokerConnection,
    private readonly publisher: Publisher,
    private readonly client: RpcClient,
  ) {
    consuming.onConnectedChange(() => this.announce());
    publishing.onConnectedChange(() => this.announce());
  }

  /**
   * Connects, and tries again until a broker answers.
   *
   * @throws TransportUrlError at once for a URL that makes no sense; MessagingClosed when `signal` aborts
   */
  static async connect(options: MessagingOptions): Promise<Messaging> {
    const address = parseTransportUrl(options.transportUrl);
    const connection = (purpose: string) =>
      new BrokerConnection({
        address,
        name: options.connectionName,
        purpose,
        heartbeatS: options.heartbeatS,
        tls: options.tls ?? null,
        logger: options.logger,
      });
    const consuming = connection('consuming');
    const publishing = connection('publishing');
    const durable = options.durableQueues ?? false;
    const publisher = new Publisher(publishing, { durable, logger: options.logger });
    const client = new RpcClient(consuming, publisher, options.logger);
    const messaging = new Messaging(options, consuming, publishing, publisher, client);
    const abort = () => void messaging.close().catch(() => undefined);
    options.signal?.addEventListener('abort', abort, { once: true });
    try {
      if (options.signal?.aborted === true) throw new MessagingClosed();
      await Promise.all([consuming.start(), publishing.start()]);
    } catch (error) {
      await messaging.close();
      throw error;
    } finally {
      options.signal?.removeEventListener('abort', abort);
    }
    return messaging;
  }

  /** Whether both connections are up. */
  get state(): MessagingState {
    if (this.closed) return 'closed';
    return this.consuming.connected && this.publishing.connected ? 'connected' : 'reconnecting';
  }

  /** Calls `listener` at every change of the state, until the returned function is called. */
  onState(listener: (state: MessagingState) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Answers the requests of a topic: those for any server, those for `host`, and those for all servers. */
  serve(options: ServeOptions): Promise<RpcServer> {
    return startServer(this.consuming, this.publisher, {
      ...options,
      exchange: options.exchange ?? 'nova',
      durable: this.options.durableQueues ?? false,
      logger: this.options.logger,
    });
  }

  /**
   * Asks and waits for the answer.
   *
   * @throws RemoteError, MessagingTimeout or MessagingClosed
   */
  call(
    target: Target,
    method: string,
    args: Record<string, unknown>,
    options: CallOptions,
  ): Promise<unknown> {
    return this.client.call(target, method, args, options);
  }

  /**
   * Sends a request that nobody answers; resolves when the broker has it in a queue.
   *
   * @throws MessagingTimeout, MessageUndeliverable or MessagingClosed
   */
  cast(target: Target, method: string, args: Record<string, unknown>, options: CastOptions): Promise<void> {
    return this.client.cast(target, method, args, options);
  }

  /** Sends a request to all servers of the topic, if there are any; resolves when the broker has it. */
  fanout(target: Target, method: string, args: Record<string, unknown>, options: CastOptions): Promise<void> {
    return this.client.fanout(target, method, args, options);
  }

  /** A sender of notifications to these topics. */
  notifier(topics: readonly string[]): Notifier {
    return new Notifier(this.publisher, topics, this.options.logger);
  }

  /** Fails calls that wait, gives unsent messages a moment, and closes the connections. Idempotent. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.announce();
    this.client.close();
    await this.publisher.close(FLUSH_TIMEOUT_MS);
    await Promise.all([this.consuming.close(), this.publishing.close()]);
  }

  private announce(): void {
    const state = this.state;
    if (state === this.lastState) return;
    this.lastState = state;
    for (const listener of this.listeners) listener(state);
  }
}
