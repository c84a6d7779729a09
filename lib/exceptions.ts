/**
 * Nova's exceptions, by Nova's names (nova/exception.py), as far as a compute service raises them.
 *
 * They travel: a call that fails is answered with `{class, module, message, kwargs}`, and nova-api re-raises the class
 * it finds there, so the name of each class and its HTTP code are part of the wire format.
 */
import { inspect } from 'node:util';

/** Base of every exception that Nova's API can re-raise by name; `code` is the HTTP status of the resulting fault. */
export class NovaException extends Error {
  /** Python module the class is looked up in by the caller (oslo.messaging allowed_remote_exmods). */
  readonly novaModule: string = 'nova.exception';
  readonly code: number = 500;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The instance is not (or no longer) on this host or in the database. */
export class InstanceNotFound extends NovaException {
  override readonly code = 404;
}
/** The instance's state changed under us: `expected_task_state` of Instance.save did not match. */
export class UnexpectedTaskStateError extends NovaException {}
/** Nova's way to say that the task was overtaken by a delete. */
export class UnexpectedDeletingTaskStateError extends UnexpectedTaskStateError {}
/** The operation does not fit the instance's vm_state, task_state or power_state. */
export class InstanceInvalidState extends NovaException {}
/** The guest is not running, though the operation needs it to. */
export class InstanceNotRunning extends NovaException {}
/** The server cannot be asked for this now: it does not run yet, or not any more. */
export class InstanceNotReady extends NovaException {
  override readonly code = 409;
}
/** The host cannot provide what the flavor asks for. */
export class ComputeResourcesUnavailable extends NovaException {}
/** The build failed for good: another host would fail as well. */
export class BuildAbortException extends NovaException {}
/** The build failed here, another host may succeed. */
export class RescheduledException extends NovaException {}
/** Glance has no such image, or not any more. */
export class ImageNotFound extends NovaException {
  override readonly code = 404;
}
/** The image cannot be booted: wrong format, unsafe contents, larger than the flavor's disk. */
export class ImageUnacceptable extends NovaException {}
/** The image's disk is larger than the flavor's root disk. */
export class FlavorDiskSmallerThanImage extends NovaException {}
/** The image wants more memory than the flavor has. */
export class FlavorMemoryTooSmall extends NovaException {}
/** The downloaded image does not have the checksum Glance promised, or its signature does not hold or cannot be verified. */
export class SignatureVerificationError extends NovaException {}
/** The certificate that an image was signed with does not go back to trusted ones. */
export class CertificateValidationFailed extends NovaException {}
/** libvirtd cannot be reached. */
export class HypervisorUnavailable extends NovaException {}
/** A network interface could not be plugged in time or at all. */
export class VirtualInterfaceCreateException extends NovaException {}
/** Neutron could not bind the port to this host. */
export class PortBindingFailed extends NovaException {
  override readonly code = 400;
}
/** A port asked for by the user is not there. */
export class PortNotFound extends NovaException {
  override readonly code = 404;
}
/** A port asked for by the user belongs to another server. */
export class PortInUse extends NovaException {
  override readonly code = 409;
}
/** A network asked for by the user is not there. */
export class NetworkNotFound extends NovaException {
  override readonly code = 404;
}
/** Networks could not be set up; the message says why. */
export class NetworkingFailed extends NovaException {}
/** The console type is not configured on this host. */
export class ConsoleTypeUnavailable extends NovaException {
  override readonly code = 400;
}
/** The console type is unknown. */
export class ConsoleTypeInvalid extends NovaException {
  override readonly code = 400;
}
/** Nova's word for what cannot be done as it was asked for. */
export class Invalid extends NovaException {
  override readonly code = 400;
}
/** Flavor and image ask for different things. */
export class FlavorImageConflict extends NovaException {}
/** Options of this host contradict each other, the host or its servers. */
export class InvalidConfiguration extends Invalid {}
/** The action of a watchdog is none. */
export class InvalidWatchdogAction extends Invalid {}
/** The image wants more memory for its screen than the flavor allows. */
export class RequestedVRamTooHigh extends NovaException {}
/** The image allows itself more sockets, cores or threads than the flavor does. */
export class ImageVCPULimitsRangeExceeded extends Invalid {}
/** The image wants more sockets, cores or threads than are allowed. */
export class ImageVCPUTopologyRangeExceeded extends Invalid {}
/** The flavor's vCPUs do not fit into the sockets, cores and threads that are allowed. */
export class ImageVCPULimitsRangeImpossible extends Invalid {}
/** This host has no UEFI for guests. */
export class UEFINotSupported extends Invalid {}
/** This host has no secure boot for guests. */
export class SecureBootNotSupported extends Invalid {}
/** All TCP ports for serial consoles are in use. */
export class SocketPortRangeExhausted extends NovaException {
  /** As Nova spells it. */
  override readonly name = 'SocketPortRangeExhaustedException';
}
/** The number of serial ports is none. */
export class ImageSerialPortNumberInvalid extends NovaException {
  override readonly code = 400;
}
/** The image wants more serial ports than the flavor allows. */
export class ImageSerialPortNumberExceedFlavorValue extends NovaException {
  override readonly code = 400;
}
/** No space is left for the disk or the image. */
export class DiskSpaceExhausted extends NovaException {}
/** A reboot failed; the message says why. */
export class InstanceRebootFailure extends NovaException {}
/** A power-off failed; the message says why. */
export class InstancePowerOffFailure extends NovaException {}
/** The instance could not be torn down. */
export class InstanceTerminationFailure extends NovaException {}
/** The guest's file systems cannot be brought to rest, though its image demands it for a snapshot. */
export class InstanceQuiesceNotSupported extends NovaException {
  override readonly code = 400;
}
/** A rebuild cannot leave the ephemeral disk as it is here. */
export class PreserveEphemeralNotSupported extends NovaException {}
/** A NIC could not be plugged in. */
export class InterfaceAttachFailed extends NovaException {}
/** A NIC was to be added without saying where, and the project has no network. */
export class InterfaceAttachFailedNoNetwork extends NovaException {
  override readonly code = 400;
}
/** A NIC could not be taken away. */
export class InterfaceDetachFailed extends NovaException {
  override readonly code = 400;
}
/** The image does not say that its guest has an agent (`hw_qemu_guest_agent`). */
export class QemuGuestAgentNotEnabled extends NovaException {
  override readonly code = 400;
}
/** The password could not be set; the reason never holds the password. */
export class InstancePasswordSetFailed extends NovaException {}
/** This kind of guest takes no NMI. */
export class TriggerCrashDumpNotSupported extends NovaException {
  override readonly code = 400;
}
/** The server could not be rescued; the message says why. */
export class InstanceNotRescuable extends NovaException {
  override readonly code = 400;
}
/** The rescue image wants to be a device that is not provided. */
export class UnsupportedRescueDevice extends NovaException {
  override readonly code = 400;
}
/** The rescue image wants to be on a bus that is not provided. */
export class UnsupportedRescueBus extends NovaException {
  override readonly code = 400;
}
/** The disks cannot get the sizes of the new flavor. */
export class ResizeError extends NovaException {}
/** A move to the host where the server is already. */
export class UnableToMigrateToSelf extends NovaException {
  override readonly code = 400;
}
/** A move that was begun did not come to its end. */
export class MigrationError extends NovaException {}
/** The server has no NIC on this network, or its subnets have no address left. */
export class NetworkNotFoundForInstance extends NovaException {
  override readonly code = 404;
}
/** The server does not have this address. */
export class FixedIpNotFoundForInstance extends NovaException {
  override readonly code = 404;
}
/** A server cannot be moved between these hosts; it stays as it is. */
export class MigrationPreCheckError extends MigrationError {}
/** Something else went wrong, in words. */
export class InternalError extends NovaException {}
/** This host does not do what was asked (Python's builtin, as Nova's drivers raise it). */
export class NotImplementedError extends NovaException {
  override readonly novaModule = 'builtins';
}

/** A one-line description of anything thrown, causes included, safe for a log line or an instance fault. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let current: unknown = error; current !== undefined && parts.length < 6;) {
    const text = current instanceof Error ? current.message : inspect(current);
    if (text !== '' && !parts.some((part) => part.includes(text))) parts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(': ').replace(/\s+/g, ' ');
}
