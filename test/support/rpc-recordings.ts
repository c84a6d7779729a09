/** Messages that a real nova-compute and its peers sent over RabbitMQ, secrets taken out. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface RecordedMessage {
  readonly exchange: string;
  readonly routingKey: string;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly message: Readonly<Record<string, unknown>>;
}

export const recordedMessages: readonly RecordedMessage[] = readFileSync(
  join(__dirname, '../recordings/rpc.jsonl'),
  'utf8',
)
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as RecordedMessage);

/** The first recorded request of a method, its conductor calls by class and method: `Service.save`. */
export function recordedRequest(name: string): Readonly<Record<string, unknown>> {
  const found = recordedMessages.find(({ message }) => nameOf(message) === name);
  if (found === undefined) throw new Error(`no recorded request ${name}`);
  return found.message;
}

/** The recorded answer to a request. */
export function recordedReply(request: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const found = recordedMessages.find(
    ({ message }) => message.method === undefined && message._msg_id === request._msg_id,
  );
  if (found === undefined) throw new Error('no recorded reply');
  return found.message;
}

/** The arguments of a request. */
export function argsOf(request: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return request.args as Readonly<Record<string, unknown>>;
}

function nameOf(message: Readonly<Record<string, unknown>>): unknown {
  const args = message.args as
    { objname?: string; objmethod?: string; objinst?: { 'nova_object.name': string } } | undefined;
  if (args?.objmethod === undefined) return message.method;
  return `${args.objname ?? args.objinst?.['nova_object.name'] ?? ''}.${args.objmethod}`;
}
