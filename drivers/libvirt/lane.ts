/**
 * A lane: one connection to the daemon that carries one call at a time.
 *
 * Why not one connection for everything? libvirt keeps the reason of a failure per thread, and a call through the thread
 * pool leaves no way back to its thread. It also keeps it per connection, which is exact as long as a connection has one
 * call in flight. Besides, the daemon serves only five requests of one client at a time. Opening a lane takes about a
 * millisecond. What fails without a connection (opening one) is told through libvirt's process-wide handler, so lanes are
 * opened one after the other.
 */
import { HypervisorUnavailable } from '../../lib/exceptions';
import { binding, type Pointer, type RawError } from './binding';
import { toException } from './libvirt-error';

/**
 * libvirt's answer to a dead peer: pings after this many seconds of silence, and this many unanswered ones. Calls have
 * deadlines of their own; each ping wakes the service several times.
 */
const KEEPALIVE_INTERVAL_S = 20;
const KEEPALIVE_COUNT = 2;

let opening: Promise<unknown> = Promise.resolve();
let listening = false;
let openError: RawError | null = null;

/** One connection to the daemon. */
export class Lane {
  private constructor(
    readonly connection: bigint,
    /** Of which life of the daemon this lane is; set by its owner. */
    readonly generation: number,
  ) {}

  /** Connects to `uri`; rejects with HypervisorUnavailable. Needs the event loop to run. */
  static open(uri: string, generation: number): Promise<Lane> {
    const turn = opening.then(() => openOne(uri));
    opening = turn.catch(() => undefined);
    return turn.then((connection) => new Lane(connection, generation));
  }

  /** Awaits a call that answers with a pointer or text, null meaning failure. */
  async value<T>(call: string, answer: Promise<T | null>): Promise<T> {
    const value = await answer;
    if (value === null) throw this.failure(call);
    return value;
  }

  /** Awaits a call that answers with a number, negative meaning failure. */
  async count(call: string, answer: Promise<number>): Promise<number> {
    const value = await answer;
    if (value < 0) throw this.failure(call);
    return value;
  }

  /** Whether the connection still stands, as far as this side knows. */
  async isAlive(): Promise<boolean> {
    return (await binding().virConnectIsAlive(this.connection)) === 1;
  }

  async close(): Promise<void> {
    await binding().virConnectClose(this.connection);
  }

  private failure(call: string): Error {
    return toException(call, binding().lastErrorOf(this.connection));
  }
}

async function openOne(uri: string): Promise<bigint> {
  const api = binding();
  if (!listening) {
    listening = true;
    api.onUnattributedError((error) => {
      openError = error;
    });
  }
  openError = null;
  const connection: Pointer = await api.virConnectOpen(uri);
  if (connection === null) {
    throw new HypervisorUnavailable(`libvirtd cannot be reached at ${uri}`, {
      cause: toException('virConnectOpen', openError),
    });
  }
  api.virConnSetErrorFunc(connection, null, api.silentHandler);
  // Drivers inside this process (test:///) have no peer and refuse it.
  await api.virConnectSetKeepAlive(connection, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
  return connection;
}
