/**
 * What a failed build means for the server: gone, in error for good, or another host's turn
 * (nova/compute/manager.py, _build_and_run_instance).
 */
import {
  BuildAbortException,
  CertificateValidationFailed,
  FlavorDiskSmallerThanImage,
  FlavorMemoryTooSmall,
  ImageNotFound,
  ImageUnacceptable,
  NetworkNotFound,
  PortInUse,
  PortNotFound,
  SignatureVerificationError,
  VirtualInterfaceCreateException,
} from '../exceptions';
import { isRemoteError } from '../messaging';

/** `gone`: deleted meanwhile. `abort`: would fail everywhere. `reschedule`: another host may succeed. */
export type BuildFailure = 'gone' | 'abort' | 'reschedule';

const ABORTING = [
  BuildAbortException,
  CertificateValidationFailed,
  FlavorDiskSmallerThanImage,
  FlavorMemoryTooSmall,
  ImageNotFound,
  ImageUnacceptable,
  NetworkNotFound,
  PortInUse,
  PortNotFound,
  SignatureVerificationError,
  VirtualInterfaceCreateException,
];
const GONE = ['InstanceNotFound', 'UnexpectedDeletingTaskStateError', 'InstanceInfoCacheNotFound'];

/** The server was deleted while it was being built. */
export class DeletedDuringBuild extends Error {
  constructor() {
    super('the server was deleted while it was being built');
    this.name = 'DeletedDuringBuild';
  }
}

/** Sorts the error that ended a build. */
export function classifyBuildFailure(error: unknown): BuildFailure {
  if (error instanceof DeletedDuringBuild || GONE.some((name) => isRemoteError(error, name))) return 'gone';
  if (isRemoteError(error, 'UnexpectedTaskStateError')) return 'gone';
  return ABORTING.some((type) => error instanceof type) ? 'abort' : 'reschedule';
}
