/**
 * The host's end of the gate: asks the program inside a µVM to seal itself, to become someone, and who it is.
 *
 * Not here: what the guest does (guest/), and what it is told to become (identify.ts).
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { GuestReady } from '../../drivers/driver';
import { GateClosed, GateError, GateProtocolError, GateStepFailed, GateTimeout } from './gate-errors';
import {
  MAX_LINE_BYTES,
  parseGateLine,
  type GateAnswers,
  type GateEvent,
  type GateEventOf,
  type GateHello,
} from './gate-protocol';
import type { IdentifyMessage } from './identify';

/** How long a call may take and what ends it early. */
export interface GateCall {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** Milliseconds each step took inside the guest. */
export type StepsMs = Readonly<Record<string, number>>;

/**
 * A guest on its way to a new identity. Every promise may be left unawaited; each rejects with a GateError when the guest
 * fails, the channel ends, or the time is over.
 */
export interface Identification {
  /** The message is on its way: the guest may be resumed. */
  readonly sent: Promise<void>;
  /** Who it is is complete, sshd's new keys included: the NIC may have its carrier. */
  readonly identity: Promise<StepsMs>;
  /** All resources arrived and are in use. */
  readonly ready: Promise<GuestReady>;
  /** The image's own cloud-init (or user_data script) has run as well; minutes later, perhaps. */
  readonly done: Promise<StepsMs>;
}

interface Waiter {
  readonly id: string;
  readonly event: GateEvent['event'];
  readonly resolve: (event: GateEvent) => void;
  readonly reject: (error: Error) => void;
}

const RETRY_MS = 20;
const ENTROPY_BYTES = 128;

/** A connection to one guest's gate. QEMU serves one client at a time. */
export class GateClient {
  private readonly waiters = new Set<Waiter>();
  private partial = '';
  private failure: GateError | null = null;

  private constructor(private readonly socket: Socket) {
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      this.receive(chunk);
    });
    socket.on('error', (cause) => {
      this.fail(new GateClosed('the channel to the guest failed', { cause }));
    });
    socket.on('close', () => {
      this.fail(new GateClosed('the channel to the guest was closed'));
    });
  }

  /**
   * Connects to the channel's unix socket, waiting for it to appear.
   * @param options.deadlineMs for the connection, in milliseconds from now
   * @throws GateTimeout, or the signal's reason
   */
  static async connect(
    socketPath: string,
    options: { readonly deadlineMs: number; readonly signal?: AbortSignal },
  ): Promise<GateClient> {
    const endMs = performance.now() + options.deadlineMs;
    for (;;) {
      options.signal?.throwIfAborted();
      try {
        return new GateClient(await openSocket(socketPath));
      } catch (cause) {
        if (performance.now() >= endMs) {
          throw new GateTimeout(`no gate channel within ${options.deadlineMs} ms`, { cause });
        }
        // The socket file appears without an event we could wait for; an aborted wait rejects with AbortError.
        await delay(RETRY_MS, undefined, options.signal === undefined ? {} : { signal: options.signal });
      }
    }
  }

  /** Waits until the gate runs, which is when the image's own boot is done. */
  async waitHello(call: GateCall): Promise<GateHello> {
    const { gate, kind, uptimeS } = await this.ask1('hello', 'hello', call);
    return { gate, kind, uptimeS };
  }

  /**
   * Has the guest forget who it is and get ready to be captured.
   * @param spares PCI addresses of devices whose drivers are to let go of them, until a clone takes them for its own
   */
  async seal(spares: readonly string[], call: GateCall): Promise<StepsMs> {
    return (await this.ask1('seal', 'sealed', call, { spares: spares.join(' ') })).stepsMs;
  }

  /** Asks the guest who it is. Works until `bye`. */
  async ask(call: GateCall): Promise<GateAnswers> {
    return (await this.ask1('ask', 'answers', call)).answers;
  }

  /**
   * Sends a guest its new identity, with the time and fresh entropy of this moment. May be called while the guest is
   * paused: the message then waits in the channel.
   * @param options.timeoutMs for `ready`
   * @param options.doneTimeoutMs for `done`
   */
  identify(message: IdentifyMessage, options: GateCall & { readonly doneTimeoutMs: number }): Identification {
    const id = randomUUID();
    const doneCall = { ...options, timeoutMs: options.doneTimeoutMs };
    const identity = this.expect(id, 'identity', options).then((event) => event.stepsMs);
    const ready = this.expect(id, 'ready', options).then(({ vcpus, memoryMb, rootBytes, stepsMs }) => ({
      vcpus,
      memoryMb,
      rootBytes,
      stepsMs,
    }));
    const done = this.expect(id, 'done', doneCall).then((event) => event.stepsMs);
    const entropy = randomBytes(ENTROPY_BYTES).toString('base64');
    const sent = this.send({ op: 'identify', id, timeMs: Date.now(), entropy, ...message });
    for (const promise of [sent, identity, ready, done]) promise.catch(() => undefined);
    return { sent, identity, ready, done };
  }

  /** Tells the gate that it is not needed any more: it ends, and `ask` with it. */
  async bye(): Promise<void> {
    await this.send({ op: 'bye', id: randomUUID() });
  }

  /** Closes the channel; what waits for the guest rejects with GateClosed. Idempotent. */
  close(): void {
    this.fail(new GateClosed('the channel to the guest was closed by the host'));
  }

  private async ask1<K extends GateEvent['event']>(
    op: string,
    event: K,
    call: GateCall,
    fields: Readonly<Record<string, string>> = {},
  ): Promise<GateEventOf<K>> {
    const id = randomUUID();
    const answer = this.expect(id, event, call);
    answer.catch(() => undefined);
    await this.send({ op, id, ...fields });
    return answer;
  }

  private send(message: Record<string, unknown>): Promise<void> {
    if (this.failure !== null) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.socket.write(`${JSON.stringify(message)}\n`, (cause) => {
        if (cause) reject(new GateClosed('the channel to the guest was closed', { cause }));
        else resolve();
      });
    });
  }

  private expect<K extends GateEvent['event']>(
    id: string,
    event: K,
    call: GateCall,
  ): Promise<GateEventOf<K>> {
    if (this.failure !== null) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.waiters.delete(waiter);
        clearTimeout(timer);
        call.signal?.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = {
        id,
        event,
        resolve: (value) => {
          end();
          resolve(value as GateEventOf<K>);
        },
        reject: (error) => {
          end();
          reject(error);
        },
      };
      const onAbort = (): void => {
        waiter.reject(
          new GateError(`waiting for the guest's '${event}' was aborted`, { cause: call.signal?.reason }),
        );
      };
      const timer = setTimeout(() => {
        waiter.reject(new GateTimeout(`the guest did not say '${event}' within ${call.timeoutMs} ms`));
      }, call.timeoutMs);
      call.signal?.addEventListener('abort', onAbort, { once: true });
      this.waiters.add(waiter);
      if (call.signal?.aborted === true) onAbort();
    });
  }

  private receive(chunk: string): void {
    const lines = (this.partial + chunk).split('\n');
    this.partial = lines.pop() ?? '';
    try {
      if (this.partial.length > MAX_LINE_BYTES)
        throw new GateProtocolError('the guest sent an overlong line');
      for (const line of lines) {
        if (line.length > MAX_LINE_BYTES) throw new GateProtocolError('the guest sent an overlong line');
        if (line.trim() !== '') this.dispatch(parseGateLine(line));
      }
    } catch (error) {
      this.fail(error instanceof GateError ? error : new GateProtocolError('unexpected', { cause: error }));
    }
  }

  private dispatch(event: GateEvent): void {
    for (const waiter of [...this.waiters]) {
      if (waiter.id !== event.id) continue;
      if (event.event === 'error') waiter.reject(new GateStepFailed(event.step, event.reason));
      else if (event.event === waiter.event) waiter.resolve(event);
    }
  }

  private fail(error: GateError): void {
    this.failure ??= error;
    this.socket.destroy();
    for (const waiter of [...this.waiters]) waiter.reject(this.failure);
  }
}

function openSocket(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}
