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

const list = (maxItems: number, maxLength: number) => z.array(text(maxLength)).max(maxItems);

/** What a guest has no notion of is an empty string or list. */
const answersSchema = z.object({
  hostname: text(255),
  machineId: text(64),
  dbusMachineId: text(64),
  /** Linux cannot change it: equal in all clones until they reboot. */
  bootId: text(64),
  /** What the platform shows as the machine's UUID. */
  productUuid: text(64),
  /** Which server the gate was told to become; empty before. */
  instanceId: text(64),
  /** The same as cloud-init knows it, and how far its run for that server is. */
  cloudInstanceId: text(64),
  cloudStatus: z.enum(['', 'running', 'done', 'error']),
  /** `type base64` of each host key in /etc/ssh. */
  hostKeys: list(10, 2048),
  /** `type base64` of each key that may log in as the image's default user. */
  userKeys: list(60, 2048),
  /** SHA-256 of the random seed that the next boot will read. */
  randomSeed: text(64),
  /** Hex of 16 bytes from the guest's random number generator, and a UUID made by its kernel. */
  random: text(64),
  kernelUuid: text(64),
  /** `name address` of each network card. */
  macs: list(64, 64),
  /** Client identifiers in the leases and settings of DHCP clients, as they stand there. */
  dhcpIds: list(60, 255),
  /** Machine ids the journals on the disk and in memory are kept under. */
  journalIds: list(60, 64),
  /** `unit id` of each running service. */
  invocationIds: list(60, 255),
  /** Names of programs that have been running since before the restore. */
  survivors: list(60, 64),
  /** Paths of whatever is still there of the gate itself. */
  leftovers: list(10, 255),
  /** `name address/prefix` of each address but loopback's and link-local ones. */
  addresses: list(64, 128),
  dnsServers: list(60, 64),
  vcpus: count,
  memoryMb: count,
  /** Size of the disk that the root file system is on, and of that file system. */
  rootBytes: count,
  rootFilesystemBytes: count,
  /** `name bytes` of each disk; paths of the swap devices in use. */
  disks: list(64, 128),
  swaps: list(64, 255),
  timeMs: count,
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
