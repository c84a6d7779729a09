/**
 * A process that calls one host's `get_host_uptime` again and again, for the bench `rpc`. It spends as little as it can, for
 * it shares the machine with the service that is measured: the request is encoded once, and of an answer nothing is read but
 * which call it is for, and that it is no failure.
 *
 * Standard input: one `Burst` in JSON, the transport URL in it. Standard output: one `BurstResult`.
 */
import { randomUUID } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { connect, type Options } from 'amqplib';
import { RequestContext } from '../../lib/messaging';
import { encode } from '../../lib/messaging/envelope';
import { connectOptions, parseTransportUrl } from '../../lib/messaging/transport-url';
import { type Burst, type BurstResult, burstSchema } from './rpc-burst';

/** Stands for the ids of a call in the encoded request; as long as one. */
const PLACE = '#'.repeat(32);
const RECEIVED = /\\"_msg_id\\": ?\\"([0-9a-f]{32})\\"/;
const FAILURE = /\\"failure\\": ?[^n ]/;

/** A request with the places where the ids of a call belong. */
function encodedRequest(replyQueue: string): {
  readonly content: Buffer;
  readonly places: readonly number[];
} {
  const content = encode({
    method: 'get_host_uptime',
    args: {},
    version: '6.0',
    ...RequestContext.admin().toMessage(),
    _msg_id: PLACE,
    _reply_q: replyQueue,
    _timeout: null,
    _unique_id: PLACE,
  });
  const first = content.indexOf(PLACE);
  return { content, places: [first, content.indexOf(PLACE, first + PLACE.length)] };
}

async function burst({ transportUrl, host, callers, durationMs, timeoutMs }: Burst): Promise<BurstResult> {
  const address = parseTransportUrl(transportUrl);
  const [broker] = address.hosts;
  const connection = await connect(connectOptions(address, broker, address.tls), { noDelay: true });
  const channel = await connection.createChannel();
  const replyQueue = `reply_${newId()}`;
  await channel.assertQueue(replyQueue, { durable: false, exclusive: true });
  const { content, places } = encodedRequest(replyQueue);
  const options: Options.Publish = {
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    deliveryMode: 2,
    priority: 0,
    headers: {},
    mandatory: true,
    expiration: String(timeoutMs),
  };
  const asked = new Map<string, number>();
  const timesMs: number[] = [];
  const begin = performance.now();
  const call = (): void => {
    const id = newId();
    const request = Buffer.from(content);
    for (const place of places) request.write(id, place, 'latin1');
    asked.set(id, performance.now());
    channel.publish('nova', `compute.${host}`, request, options);
  };
  await new Promise<void>((resolve, reject) => {
    connection.on('error', reject);
    channel.on('return', () => reject(new Error(`nobody serves compute.${host}`)));
    const timer = setTimeout(() => reject(new Error(`no answer in ${timeoutMs} ms`)), durationMs + timeoutMs);
    const consuming = channel.consume(
      replyQueue,
      (message) => {
        const answer = message?.content.toString('latin1') ?? '';
        const id = RECEIVED.exec(answer)?.[1] ?? '';
        const askedAt = asked.get(id);
        if (askedAt === undefined || FAILURE.test(answer)) {
          reject(new Error(`an answer that is none: ${answer.slice(0, 500)}`));
          return;
        }
        asked.delete(id);
        const now = performance.now();
        timesMs.push(now - askedAt);
        if (now - begin < durationMs) {
          call();
        } else if (asked.size === 0) {
          clearTimeout(timer);
          resolve();
        }
      },
      { noAck: true },
    );
    consuming.then(() => {
      for (let caller = 0; caller < callers; caller += 1) call();
    }, reject);
  });
  const seconds = (performance.now() - begin) / 1000;
  await connection.close();
  return { seconds, timesMs };
}

function newId(): string {
  return randomUUID().replaceAll('-', '');
}

async function main(): Promise<void> {
  const result = await burst(burstSchema.parse(JSON.parse(await text(process.stdin))));
  process.stdout.write(JSON.stringify(result));
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
});
