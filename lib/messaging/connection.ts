/**
 * One connection to RabbitMQ that comes back: who needs something on it attaches a set-up that runs on every new
 * connection. What a channel is used for is the business of those who attach.
 */
import { readFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, type Channel, type ChannelModel, type ConfirmChannel } from 'amqplib';
import type { Logger } from 'pino';
import { describeError } from '../exceptions';
import { backOffMs } from './back-off';
import { deferred, type Deferred } from './deferred';
import { MessagingClosed } from './errors';
import { type BrokerAddress, type BrokerHost, connectOptions } from './transport-url';
import type { TlsOptions } from './types';

/** As oslo.messaging negotiates it. */
const FRAME_MAX_BYTES = 131_072;
const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2_000;
/** A connection that lasted this long was a good one: the back-off starts anew. */
const STABLE_AFTER_MS = 10_000;

/** A live connection, given to set-ups. */
export interface Session {
  /** A channel. When the broker closes it, the whole connection is made anew. */
  openChannel(): Promise<Channel>;
  /** The same with publisher confirms. */
  openConfirmChannel(): Promise<ConfirmChannel>;
}

/** Prepares a new connection: declares, consumes. When it rejects, the connection is dropped and made anew. */
export type SessionSetup = (session: Session) => Promise<void>;

export interface BrokerConnectionOptions {
  readonly address: BrokerAddress;
  readonly name: string;
  /** For the log: `consuming`, `publishing`. */
  readonly purpose: string;
  readonly heartbeatS: number;
  readonly tls: TlsOptions | null;
  readonly logger: Logger;
}

interface Attachment {
  readonly setup: SessionSetup;
  readonly ready: Deferred<undefined>;
}

/** See the top of the file. */
export class BrokerConnection {
  private readonly attachments = new Set<Attachment>();
  private readonly listeners = new Set<() => void>();
  private readonly closing = new AbortController();
  private current: { readonly model: ChannelModel; readonly lost: Deferred<never> } | null = null;
  private running: Promise<void> | null = null;
  private up = false;

  constructor(private readonly options: BrokerConnectionOptions) {}

  /** Whether there is a connection on which all set-ups ran. */
  get connected(): boolean {
    return this.up;
  }

  private ended(): boolean {
    return this.closing.signal.aborted;
  }

  /** Calls `listener` whenever `connected` may have changed. */
  onConnectedChange(listener: () => void): void {
    this.listeners.add(listener);
  }

  /** Connects; resolves with the first connection, however long that takes. @throws MessagingClosed */
  async start(): Promise<void> {
    const first = this.attach(() => Promise.resolve());
    this.running ??= this.run();
    await first.ready;
    first.detach();
  }

  /**
   * Runs `setup` on this connection and on every later one. `ready` resolves when it has succeeded once and rejects with
   * MessagingClosed when the connection is closed before.
   */
  attach(setup: SessionSetup): { readonly ready: Promise<unknown>; readonly detach: () => void } {
    const attachment: Attachment = { setup, ready: deferred<undefined>() };
    const detach = () => void this.attachments.delete(attachment);
    if (this.ended()) {
      attachment.ready.reject(new MessagingClosed());
      return { ready: attachment.ready.promise, detach };
    }
    this.attachments.add(attachment);
    if (this.up && this.current !== null) {
      const { model } = this.current;
      this.runSetup(attachment, model).catch((error: unknown) => {
        this.drop(`a set-up failed: ${describeError(error)}`, model);
      });
    }
    return { ready: attachment.ready.promise, detach };
  }

  /** Gives up the present connection (or only `model`, when that is still the present one) and makes a new one. */
  drop(reason: string, model = this.current?.model): void {
    if (this.current === null || this.current.model !== model) return;
    this.current.lost.reject(new Error(reason));
  }

  /** Ends the connection for good. Idempotent. */
  async close(): Promise<void> {
    this.closing.abort();
    this.drop('closed by the service');
    for (const attachment of this.attachments) attachment.ready.reject(new MessagingClosed());
    this.attachments.clear();
    await this.running;
  }

  private async run(): Promise<void> {
    const { logger, purpose, address } = this.options;
    let attempt = 0;
    for (let index = 0; !this.ended(); index += 1) {
      const host = address.hosts[index % address.hosts.length] ?? address.hosts[0];
      const where = { broker: `${host.hostname}:${host.port}`, purpose };
      const life = { upSince: Infinity };
      const error = await this.live(host, () => {
        life.upSince = Date.now();
        logger.info({ ...where, afterAttempts: attempt }, 'connected to RabbitMQ');
      }).catch((reason: unknown) => reason);
      if (this.ended()) break;
      if (Date.now() - life.upSince >= STABLE_AFTER_MS) attempt = 0;
      const retryInMs = backOffMs(attempt);
      attempt += 1;
      const what = life.upSince === Infinity ? 'cannot connect to' : 'lost the connection to';
      logger.warn({ ...where, attempt, retryInMs }, `${what} RabbitMQ: ${describeError(error)}`);
      await delay(retryInMs, undefined, { signal: this.closing.signal }).catch(() => undefined);
    }
  }

  /** One connection from its birth to its end; always rejects, with the reason of the end. */
  private async live(host: BrokerHost, onUp: () => void): Promise<never> {
    const model = await this.open(host);
    const lost = deferred<never>();
    lost.promise.catch(() => undefined);
    this.current = { model, lost };
    model.on('error', (error: unknown) => this.drop(describeError(error), model));
    model.on('close', (error: unknown) =>
      this.drop(error === undefined ? 'the broker closed it' : describeError(error), model),
    );
    try {
      if (this.ended()) throw new MessagingClosed();
      for (const attachment of this.attachments) {
        await Promise.race([this.runSetup(attachment, model), lost.promise]);
      }
      this.up = true;
      onUp();
      this.announce();
      return await lost.promise;
    } finally {
      this.current = null;
      if (this.up) {
        this.up = false;
        this.announce();
      }
      await closeModel(model);
    }
  }

  private async runSetup(attachment: Attachment, model: ChannelModel): Promise<void> {
    const guard = <T extends Channel>(channel: T): T => {
      channel.on('error', (error: unknown) =>
        this.drop(`the broker closed a channel: ${describeError(error)}`, model),
      );
      return channel;
    };
    await attachment.setup({
      openChannel: async () => guard(await model.createChannel()),
      openConfirmChannel: async () => guard(await model.createConfirmChannel()),
    });
    attachment.ready.resolve(undefined);
  }

  private async open(host: BrokerHost): Promise<ChannelModel> {
    const { address, name, heartbeatS, tls } = this.options;
    const pem = async (path: string | null | undefined) => (path ? await readFile(path) : undefined);
    const [ca, cert, key] = await Promise.all([pem(tls?.caFile), pem(tls?.certFile), pem(tls?.keyFile)]);
    const model = await connect(
      {
        ...connectOptions(address, host, tls !== null),
        heartbeat: heartbeatS,
        frameMax: FRAME_MAX_BYTES,
      },
      {
        timeout: CONNECT_TIMEOUT_MS,
        noDelay: true,
        keepAlive: true,
        clientProperties: { connection_name: name },
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined ? {} : { cert }),
        ...(key === undefined ? {} : { key }),
      },
    );
    gatherWrites(model);
    return model;
  }

  private announce(): void {
    for (const listener of this.listeners) listener();
  }
}

/**
 * Sends all that is written at once by one call of the system: amqplib writes each message and each acknowledgement by
 * itself, which is the largest part of what a small message costs.
 */
function gatherWrites({ connection }: ChannelModel): void {
  // The types do not show it.
  const socket: unknown = Reflect.get(connection, 'stream');
  if (!(socket instanceof Socket)) return;
  const write = socket.write.bind(socket);
  const uncork = (): void => socket.uncork();
  Object.assign(socket, {
    write: (...args: Parameters<Socket['write']>): boolean => {
      if (socket.writableCorked === 0) {
        socket.cork();
        process.nextTick(uncork);
      }
      return write(...args);
    },
  });
}

/** Closes politely, but does not wait for a broker that is gone. */
async function closeModel(model: ChannelModel): Promise<void> {
  const timer = new AbortController();
  const polite = model.close().catch(() => undefined);
  await Promise.race([
    polite,
    delay(CLOSE_TIMEOUT_MS, undefined, { signal: timer.signal }).catch(() => undefined),
  ]);
  timer.abort();
}
