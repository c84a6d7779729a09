/** What the parts of the messaging agree on: where a message goes, who answers it, and what may be asked. */
import type { Logger } from 'pino';
import type { RequestContext } from './context';

/** Where a request goes. */
export interface Target {
  /** Control exchange; `nova` when absent. */
  readonly exchange?: string;
  /** `conductor`, `scheduler`, `compute`. */
  readonly topic: string;
  /** A host; absent for any server of the topic. */
  readonly server?: string;
  /** Of the RPC interface, `6.0`. */
  readonly version: string;
  readonly namespace?: string;
}

export interface CastOptions {
  readonly context: RequestContext;
}

export interface CallOptions extends CastOptions {
  /** How long to wait for the answer at most. */
  readonly timeoutMs: number;
  /**
   * For calls that may take long: the server is asked for signs of life, and the call ends early when none comes for this
   * long (oslo's call_monitor_timeout; whole seconds).
   */
  readonly monitorTimeoutMs?: number;
}

/** How a request came. */
export interface IncomingCall {
  readonly kind: 'call' | 'cast';
  readonly method: string;
  readonly version: string;
}

/**
 * Serves one method. Its result must be JSON (NovaObjects turn themselves into it); what it throws goes back to the caller
 * of a call and to the log for a cast.
 */
export type RpcHandler = (
  context: RequestContext,
  args: Record<string, unknown>,
  call: IncomingCall,
) => Promise<unknown>;

/** Methods under one namespace. */
export interface Endpoint {
  readonly namespace?: string;
  /** Highest accepted version of each major: `['6.1', '5.13']`. */
  readonly versions: readonly string[];
  readonly methods: ReadonlyMap<string, RpcHandler>;
}

export interface ServeOptions {
  readonly exchange?: string;
  readonly topic: string;
  readonly host: string;
  readonly endpoints: readonly Endpoint[];
  /** Methods that are served to the end of `stop`, since running ones may be waiting for them. */
  readonly servedWhileStopping?: readonly string[];
}

/** A running server of a topic. */
export interface RpcServer {
  /**
   * Takes no more requests and waits until the running ones are answered, `deadlineMs` at most (default 10 s). Requests that
   * come meanwhile stay in their queues.
   */
  stop(deadlineMs?: number): Promise<void>;
}

export type MessagingState = 'connected' | 'reconnecting' | 'closed';

/** TLS towards the broker; paths of PEM files. */
export interface TlsOptions {
  readonly caFile: string | null;
  readonly certFile: string | null;
  readonly keyFile: string | null;
}

export interface MessagingOptions {
  /** oslo's transport_url: `rabbit://user:password@host:5672,user:password@host2:5672/vhost`. */
  readonly transportUrl: string;
  /** Shown by `rabbitmqctl list_connections`: `nova-compute:<pid>:<uuid>`. */
  readonly connectionName: string;
  /** AMQP heartbeat; a connection that is silent for twice as long is given up. 0 turns it off. */
  readonly heartbeatS: number;
  readonly logger: Logger;
  /** oslo's amqp_durable_queues: the exchange and the topic queues survive the broker. */
  readonly durableQueues?: boolean;
  readonly tls?: TlsOptions;
  /** Ends the wait for the first connection. */
  readonly signal?: AbortSignal;
}
