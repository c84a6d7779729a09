/**
 * The topics on which the service is asked. Clouds from service version 71 on send what finishes an operation that is under
 * way to a second one, which is served until the first has fallen silent (nova/service.py, `topic_alt`).
 */
import type { Endpoint, Messaging, RpcServer } from '../messaging';
import { ALTERNATE_TOPIC_SINCE } from './release';

const TOPIC = 'compute';
const ALTERNATE_TOPIC = 'compute-alt';

/** Serves the same methods on one topic or both. */
export class RpcTopics {
  /** In the order in which they end. */
  private readonly servers = new Map<string, RpcServer>();

  constructor(
    private readonly messaging: Pick<Messaging, 'serve'>,
    private readonly host: string,
    private readonly endpoints: readonly Endpoint[],
  ) {}

  /** Serves all topics that a service of this version is asked on. What is served already goes on. */
  async serve(version: number): Promise<void> {
    // Boots wait for Neutron's news about their ports.
    await this.open(TOPIC, ['external_instance_event']);
    if (version >= ALTERNATE_TOPIC_SINCE) await this.open(ALTERNATE_TOPIC, []);
  }

  /** Takes no more requests and waits for the running ones, at most this long for each topic. */
  async stop(deadlineMs: number): Promise<void> {
    for (const server of this.servers.values()) await server.stop(deadlineMs);
  }

  private async open(topic: string, servedWhileStopping: readonly string[]): Promise<void> {
    if (this.servers.has(topic)) return;
    const { host, endpoints } = this;
    this.servers.set(topic, await this.messaging.serve({ topic, host, endpoints, servedWhileStopping }));
  }
}
