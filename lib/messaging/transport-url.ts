/** Reading oslo's `transport_url`: several hosts, percent-encoded credentials, a virtual host. */
import type { Options } from 'amqplib';
import { z } from 'zod';
import { TransportUrlError } from './errors';

/** One broker of a cluster. */
export interface BrokerHost {
  readonly hostname: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
}

/** Where the brokers are. */
export interface BrokerAddress {
  readonly tls: boolean;
  readonly virtualHost: string;
  /** At least one; tried in this order. */
  readonly hosts: readonly [BrokerHost, ...BrokerHost[]];
}

/** What amqplib connects with to one of the brokers. @param tls also where the URL does not ask for it */
export function connectOptions(
  { virtualHost, ...address }: BrokerAddress,
  host: BrokerHost,
  tls: boolean,
): Options.Connect {
  return { protocol: address.tls || tls ? 'amqps' : 'amqp', vhost: virtualHost, ...host };
}

const EXAMPLE = 'rabbit://user:password@host:5672,user:password@host2:5672/vhost';
const URL_PARTS = /^(?<scheme>[a-z+]+):\/\/(?<hosts>[^/?#]*)(?:\/(?<vhost>[^?#]*))?(?:\?(?<query>.*))?$/i;
const HOST_PARTS =
  /^(?:(?<user>[^:]*)(?::(?<password>.*))?@)?(?:\[(?<v6>[^\]]+)\]|(?<name>[^:@[\]]+))(?::(?<port>\d*))?$/;
const SCHEMES = new Map([
  ['rabbit', false],
  ['kombu', false],
  ['kombu+amqp', false],
  ['amqp', false],
  ['rabbits', true],
  ['amqps', true],
]);
const portSchema = z.coerce.number().int().min(1).max(65_535);

/**
 * Parses a transport URL. Error texts never quote it: it has passwords in it.
 *
 * @throws TransportUrlError
 */
export function parseTransportUrl(url: string): BrokerAddress {
  const parts = URL_PARTS.exec(url.trim())?.groups;
  const tls = SCHEMES.get(parts?.scheme?.toLowerCase() ?? '');
  if (parts === undefined || tls === undefined) {
    throw new TransportUrlError(`not a RabbitMQ transport URL: expected ${EXAMPLE}`);
  }
  const [first, ...others] = (parts.hosts ?? '')
    .split(',')
    .filter((host) => host !== '')
    .map((host, index) => parseHost(host, index + 1, tls));
  if (first === undefined) throw new TransportUrlError(`no host in the transport URL: expected ${EXAMPLE}`);
  return { tls, virtualHost: decode(parts.vhost ?? '', 'virtual host') || '/', hosts: [first, ...others] };
}

function parseHost(text: string, position: number, tls: boolean): BrokerHost {
  const parts = HOST_PARTS.exec(text)?.groups;
  const hostname = parts?.v6 ?? parts?.name;
  if (parts === undefined || hostname === undefined) {
    throw new TransportUrlError(
      `host ${position} of the transport URL cannot be understood: expected ${EXAMPLE}`,
    );
  }
  const port = portSchema.safeParse(parts.port || (tls ? 5671 : 5672));
  if (!port.success) {
    throw new TransportUrlError(`host ${position} of the transport URL has no valid port (1 to 65535)`);
  }
  return {
    hostname,
    port: port.data,
    username: parts.user === undefined ? 'guest' : decode(parts.user, 'user name'),
    password: parts.user === undefined ? 'guest' : decode(parts.password ?? '', 'password'),
  };
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new TransportUrlError(`the ${what} in the transport URL is not percent-encoded correctly`);
  }
}
