/** The message queue: every broker of the transport URL takes our login, and nova-conductor answers over it. */
import { connect } from 'amqplib';
import { describeError } from '../exceptions';
import { parseTransportUrl } from '../messaging';
import { type Check, fail, ok, warn } from './check';

const CONNECT_TIMEOUT_MS = 8000;
const CONDUCTOR_TIMEOUT_MS = 20_000;

/** PEM content for TLS, when the configuration asks for it. */
export interface BrokerTls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
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
          const connection = await connect(
            {
              protocol: address.tls || tls !== undefined ? 'amqps' : 'amqp',
              hostname: host.hostname,
              port: host.port,
              username: host.username,
              password: host.password,
              vhost: address.virtualHost,
            },
            { timeout: CONNECT_TIMEOUT_MS, clientProperties: { connection_name: 'prebake doctor' }, ...tls },
          );
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
