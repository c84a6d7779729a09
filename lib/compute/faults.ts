/**
 * What a failure looks like to the user: the instance fault (nova/compute/utils.py, add_instance_fault_from_exc).
 */
import { NovaException, describeError } from '../exceptions';

/** Fields of an InstanceFault. */
export interface FaultFields {
  /** HTTP status; `openstack server show` gives the message to non-admins for every code but 500. */
  readonly code: number;
  readonly message: string;
  /** Longer text, shown to admins only. */
  readonly details: string;
}

/** The database column holds 255 characters. */
const MESSAGE_LIMIT = 255;

/** Describes `error` for the server's owner; causes are named in the details. */
export function faultFields(error: unknown): FaultFields {
  const code = error instanceof NovaException ? error.code : 500;
  const text = describeError(error);
  return {
    code,
    message: text.length > MESSAGE_LIMIT ? `${text.slice(0, MESSAGE_LIMIT - 3)}...` : text,
    details: error instanceof Error && error.stack !== undefined ? error.stack : text,
  };
}
