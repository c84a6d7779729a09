/**
 * The words of the gate: JSON objects, one a line, over the virtio-serial port `org.prebake.gate.0`.
 *
 * The host asks (`op`), the guest answers (`event`) with the `id` it was asked with. Everything the guest says is
 * untrusted: bounded, checked here, and nothing in it ever names a file or a command on the host.
 */
import { z } from 'zod';
import { GateProtocolError } from './gate-errors';

/** Name of the port inside the guest and of the channel's target in the domain XML. */
export const GATE_PORT = 'org.prebake.gate.0';

/** Longest line taken from a guest. */
export const MAX_LINE_BYTES = 64 * 1024;

// Control characters would reach logs and terminals, so they are replaced.
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}]+/gu;

const text = (maxLength: number) =>
  z
    .string()
    .max(maxLength)
    .transform((value) => value.replace(UNPRINTABLE, ' '));
const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const steps = z
  .record(z.string().regex(/^[\w.+= -]{1,40}$/), z.number().nonnegative().max(1e9))
  .refine((value) => Object.keys(value).length <= 100, 'too many steps');
const id = z.string().max(64);

const answersSchema = z.object({
  hostname: text(255),
  machineId: text(64),
  bootId: text(64),
  instanceId: text(64),
  /** `type base64` of each host key in /etc/ssh. */
  hostKeys: z.array(text(2048)).max(10),
  /** `name address/prefix` of each address but loopback's and link-local ones. */
  addresses: z.array(text(128)).max(64),
  vcpus: count,
  memoryMb: count,
  /** Size of the disk that the root file system is on, and of that file system. */
  rootBytes: count,
  rootFilesystemBytes: count,
  timeMs: count,
  /** Hex of 16 bytes from the guest's random number generator. */
  random: text(64),
});

const eventSchema = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('hello'),
    id,
    gate: text(64),
    kind: z.enum(['python', 'busybox']),
    uptimeS: z.number(),
  }),
  z.object({ event: z.literal('sealed'), id, stepsMs: steps }),
  z.object({ event: z.literal('identity'), id, stepsMs: steps }),
  z.object({
    event: z.literal('ready'),
    id,
    vcpus: count,
    memoryMb: count,
    rootBytes: count,
    stepsMs: steps,
  }),
  z.object({ event: z.literal('done'), id, stepsMs: steps }),
  z.object({ event: z.literal('answers'), id, answers: answersSchema }),
  z.object({ event: z.literal('error'), id, step: text(100), reason: text(8192) }),
]);

/** One thing a guest said. */
export type GateEvent = z.infer<typeof eventSchema>;
/** An event of one kind. */
export type GateEventOf<K extends GateEvent['event']> = Extract<GateEvent, { event: K }>;
/** What a guest says about itself when asked. */
export type GateAnswers = z.infer<typeof answersSchema>;
/** The gate's first words. */
export type GateHello = Omit<GateEventOf<'hello'>, 'event' | 'id'>;

/** Checks one line from a guest. @throws GateProtocolError */
export function parseGateLine(line: string): GateEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new GateProtocolError('the guest sent a line that is not JSON', { cause });
  }
  const checked = eventSchema.safeParse(value);
  if (checked.success) return checked.data;
  throw new GateProtocolError(
    `the guest sent an unknown message: ${z.prettifyError(checked.error).slice(0, 500)}`,
    {
      cause: checked.error,
    },
  );
}
