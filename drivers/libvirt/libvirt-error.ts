/**
 * What a failed libvirt call becomes: a `LibvirtError` with libvirt's own code, or one of Nova's exceptions where callers
 * decide by it (no such domain, no libvirtd).
 */
import { HypervisorUnavailable, InstanceNotFound } from '../../lib/exceptions';
import type { RawError } from './binding';

/** virErrorNumber, the ones that are decided upon (libvirt/virterror.h). */
export const ErrorCode = {
  INTERNAL_ERROR: 1,
  NO_SUPPORT: 3,
  NO_CONNECT: 5,
  INVALID_CONN: 6,
  INVALID_ARG: 8,
  SYSTEM_ERROR: 38,
  RPC: 39,
  NO_DOMAIN: 42,
  OPERATION_INVALID: 55,
  NO_SECRET: 66,
  OPERATION_TIMEOUT: 68,
  AGENT_UNRESPONSIVE: 86,
  DEVICE_MISSING: 99,
} as const;

/** virErrorDomain: the parts of libvirt that fail when the daemon is gone. */
const ErrorDomain = { REMOTE: 13, RPC: 7 } as const;

/** A libvirt call failed; `code` is virErrorNumber, `domain` virErrorDomain. */
export class LibvirtError extends Error {
  constructor(
    /** The C function that failed. */
    readonly call: string,
    readonly code: number,
    readonly domain: number,
    message: string,
  ) {
    super(message);
    this.name = 'LibvirtError';
  }
}

/** Whether `error` is libvirt's refusal with one of `codes` (values of `ErrorCode`), or without codes any refusal. */
export function isLibvirtError(error: unknown, ...codes: readonly number[]): error is LibvirtError {
  return error instanceof LibvirtError && (codes.length === 0 || codes.includes(error.code));
}

/** Whether the failure came from the way to the daemon and not from what was asked of it. */
export function isConnectionLoss({ code, domain }: RawError): boolean {
  if (code === ErrorCode.NO_CONNECT || code === ErrorCode.INVALID_CONN || code === ErrorCode.RPC) return true;
  const onTheWay = domain === ErrorDomain.RPC || domain === ErrorDomain.REMOTE;
  return onTheWay && (code === ErrorCode.SYSTEM_ERROR || code === ErrorCode.INTERNAL_ERROR);
}

/** The exception for a failed call: InstanceNotFound, HypervisorUnavailable, or the LibvirtError itself. */
export function toException(call: string, raw: RawError | null): Error {
  if (raw === null)
    return new LibvirtError(call, ErrorCode.INTERNAL_ERROR, 0, `${call} failed without a reason`);
  const cause = new LibvirtError(call, raw.code, raw.domain, raw.message ?? `libvirt error ${raw.code}`);
  if (raw.code === ErrorCode.NO_DOMAIN) return new InstanceNotFound(cause.message, { cause });
  if (isConnectionLoss(raw))
    return new HypervisorUnavailable('The connection to libvirtd is lost', { cause });
  return cause;
}
