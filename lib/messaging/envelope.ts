/**
 * The bytes of a message: JSON in an envelope of JSON (oslo.messaging's version 2.0), and the shapes of requests and
 * replies inside. Checked here, once, before anything else looks at them.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { MalformedMessage } from './errors';

/** Far beyond anything Nova sends; parsing more would hold up everything else. */
export const MAX_BODY_BYTES = 32 * 1024 * 1024;

const VERSION = '2.0';

const envelopeSchema = z.object({ 'oslo.version': z.string().regex(/^2\./), 'oslo.message': z.string() });
const bodySchema = z.record(z.string(), z.unknown());

/** Absent and null are the same to oslo. */
const orNull = <T extends z.ZodType>(schema: T) => schema.nullable().default(null);

// Without the keys that it does not name: looking at each of those, too, takes zod several times as long.
const requestSchema = z.object({
  method: z.string().min(1).max(255),
  args: bodySchema.default({}),
  version: orNull(z.string().regex(/^\d+\.\d+$/)),
  namespace: orNull(z.string()),
  _unique_id: z.string().optional(),
  _msg_id: orNull(z.string()),
  _reply_q: orNull(z.string().max(255)),
  _timeout: orNull(z.coerce.number()).catch(null),
});

const replySchema = z.object({
  _msg_id: z.string(),
  _unique_id: z.string().optional(),
  result: z.unknown(),
  failure: orNull(z.string()),
  ending: z.boolean().default(false),
});

/** A request as it came; all its keys, `_context_*` among them, are kept. */
export type Request = z.infer<typeof requestSchema> & { readonly version: string } & Record<string, unknown>;
/** One of the answers to a call; the last has `ending`. */
export type Reply = z.infer<typeof replySchema>;

/** An id as oslo makes them: a UUID's 32 hex digits. */
export function newId(): string {
  return randomUUID().replaceAll('-', '');
}

/** The bytes of a message. */
export function encode(body: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.from(JSON.stringify({ 'oslo.version': VERSION, 'oslo.message': JSON.stringify(body) }));
}

/** @throws MalformedMessage */
export function decodeRequest(content: Buffer): Request {
  const body = decodeBody(content);
  const known = check(requestSchema, body, 'request');
  return Object.assign(body as Record<string, unknown>, known, { version: known.version ?? '1.0' });
}

/** @throws MalformedMessage */
export function decodeReply(content: Buffer): Reply {
  return check(replySchema, decodeBody(content), 'reply');
}

/** What is in a message's envelope. @throws MalformedMessage */
export function decodeBody(content: Buffer): unknown {
  if (content.length > MAX_BODY_BYTES) {
    throw new MalformedMessage(`a message of ${content.length} bytes is too large`);
  }
  const envelope = check(envelopeSchema, parse(content.toString('utf8')), 'envelope');
  return parse(envelope['oslo.message']);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own message quotes the text, which may hold secrets.
    throw new MalformedMessage('a message is not JSON');
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  const issues = checked.error.issues.map((issue) => `${issue.path.join('.') || 'it'}: ${issue.message}`);
  throw new MalformedMessage(`a message is not an oslo ${what} (${issues.join('; ')})`);
}
