/** The message queue: every broker of the transport URL takes our login, nova-conductor answers over it, and the host's requests are nobody else's. */
import { type ChannelModel, connect } from 'amqplib';
import { z } from 'zod';
import { describeError } from '../exceptions';
import { type BrokerAddress, type BrokerHost, connectOptions, parseTransportUrl } from '../messaging';
import { type Check, fail, ok, warn } from './check';

const CONNECT_TIMEOUT_MS = 8000;
const CONDUCTOR_TIMEOUT_MS = 20_000;

/** PEM content for TLS, when the configuration asks for it. */
export interface BrokerTls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** RabbitMQ's answer when a queue that is asked for is not there. */
const NotFound = z.looseObject({ code: z.literal(404) });

function connectTo(
  host: BrokerHost,
  address: BrokerAddress,
  tls: BrokerTls | undefined,
): Promise<ChannelModel> {
  return connect(connectOptions(address, host, tls !== undefined), {
    timeout: CONNECT_TIMEOUT_MS,
    clientProperties: { connection_name: 'prebake doctor' },
    ...tls,
  });
}

/** @param readTls undefined for a connection without TLS, unless the URL's scheme asks for it */
export function amqpCheck(transportUrl: string, readTls: () => Promise<BrokerTls | undefined>): Check {
  const fix = 'see that [DEFAULT] transport_url is the one of the other compute hosts of this cell';
  return {
    name: 'amqp',
    fix,
    run: async () => {
      const address = parseTransportUrl(transportUrl);
      const tls = await readTls();
      const failures: string[] = [];
      for (const host of address.hosts) {
        try {
          const connection = await connectTo(host, address, tls);
          await connection.close();
        } catch (error) {
          failures.push(`${host.hostname}:${host.port}: ${describeError(error)}`);
        }
      }
      const names = address.hosts.map((host) => `${host.hostname}:${host.port}`).join(', ');
      const detail = `RabbitMQ at ${names}, virtual host '${address.virtualHost}'`;
      if (failures.length === 0) return ok(detail);
      const reasons = failures.join('; ');
      return failures.length < address.hosts.length
        ? warn(`${detail}: ${reasons}`, 'the other brokers are used meanwhile; mend this one')
        : fail(reasons, cure(reasons) ?? fix);
    },
  };
}

function cure(reasons: string): string | undefined {
  if (/ACCESS.REFUSED/i.test(reasons)) return 'correct user and password in [DEFAULT] transport_url';
  if (/NOT.ALLOWED/i.test(reasons)) {
    return 'correct the virtual host at the end of [DEFAULT] transport_url, or give the user access to it (rabbitmqctl set_permissions)';
  }
  if (/ECONNREFUSED|ENOTFOUND|ETIMEDOUT|EHOSTUNREACH/.test(reasons)) {
    return 'start RabbitMQ, or correct host and port in [DEFAULT] transport_url';
  }
  return undefined;
}

/** @param ping asks nova-conductor over a connection of its own */
export function conductorCheck(ping: (signal: AbortSignal) => Promise<void>): Check {
  return {
    name: 'conductor',
    needs: ['amqp'],
    timeoutMs: CONDUCTOR_TIMEOUT_MS,
    fix: 'start nova-conductor in this cell; it must use the same transport_url',
    run: async (signal) => {
      await ping(signal);
      return ok('nova-conductor answers');
    },
  };
}

/**
 * Whether one service alone takes the requests of this host: of two, each gets every other one, and both write the
 * host's records.
 * @param host `[DEFAULT] host`
 */
export function soleServiceCheck(
  transportUrl: string,
  host: string,
  readTls: () => Promise<BrokerTls | undefined>,
): Check {
  const queue = `compute.${host}`;
  return {
    name: 'sole-service',
    needs: ['amqp'],
    fix: 'see that the user of [DEFAULT] transport_url may use the queues of its virtual host (rabbitmqctl list_permissions)',
    run: async () => {
      const consumers = await countConsumers(parseTransportUrl(transportUrl), await readTls(), queue);
      if (consumers === null || consumers === 0) return ok(`nobody takes the requests of host ${host} now`);
      if (consumers === 1) return ok(`one service takes the requests of host ${host}`);
      return fail(
        `${consumers} services take the requests of host ${host} (queue ${queue}), each of them a part`,
        'stop all but one: systemctl disable --now nova-compute here, or give another machine that has the same [DEFAULT] host its own',
      );
    },
  };
}

/** Of the first broker that answers: they share their queues. Null when there is no such queue. */
async function countConsumers(
  address: BrokerAddress,
  tls: BrokerTls | undefined,
  queue: string,
): Promise<number | null> {
  let connection: ChannelModel | undefined;
  for (const host of address.hosts) {
    connection = await connectTo(host, address, tls).catch(() => undefined);
    if (connection !== undefined) break;
  }
  if (connection === undefined) throw new Error('no broker answers any more');
  try {
    const channel = await connection.createChannel();
    // The broker closes the channel when there is no such queue; the call says so, too.
    channel.on('error', () => undefined);
    // Asks without making it.
    return (await channel.checkQueue(queue)).consumerCount;
  } catch (error) {
    if (NotFound.safeParse(error).success) return null;
    throw error;
  } finally {
    await connection.close();
  }
}
