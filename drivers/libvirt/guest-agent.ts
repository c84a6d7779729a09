/**
 * What is asked of the program inside a guest, QEMU's guest agent, and what is done to a guest when nothing else reaches
 * it (nova/virt/libvirt/driver.py: set_admin_password, quiesce, trigger_crash_dump).
 */
import {
  InstanceNotRunning,
  InternalError,
  NotImplementedError,
  QemuGuestAgentNotEnabled,
  TriggerCrashDumpNotSupported,
  describeError,
} from '../../lib/exceptions';
import type { Logger } from '../../lib/log';
import type { InstanceSpec } from '../driver';
import type { Domain } from './domain';
import { hardwareOf } from './hardware';
import { ErrorCode, isLibvirtError } from './libvirt-error';

/**
 * Sets the password of the guest's administrator: image property `os_admin_user`, else the usual one of its system.
 * @throws QemuGuestAgentNotEnabled without image property `hw_qemu_guest_agent`, NotImplementedError when no agent
 *   answers, InternalError for the agent's refusal
 */
export async function setAdminPassword(
  domain: Domain,
  instance: InstanceSpec,
  password: string,
): Promise<void> {
  if (!hardwareOf(instance).guestAgent) throw new QemuGuestAgentNotEnabled('QEMU guest agent is not enabled');
  const { os_admin_user: chosen, os_type: osType } = instance.image.properties;
  const user = chosen ?? (osType === 'windows' ? 'Administrator' : 'root');
  try {
    await domain.setUserPassword(user, password);
  } catch (error) {
    if (!isLibvirtError(error)) throw error;
    if (error.code === ErrorCode.AGENT_UNRESPONSIVE) {
      throw new NotImplementedError('the QEMU guest agent does not answer', { cause: error });
    }
    throw new InternalError(
      `Error from libvirt while set password for username "${user}": [Error Code ${error.code}] ${error.message}`,
      { cause: error },
    );
  }
}

/**
 * Brings the guest's file systems to rest, or lets them go on.
 * @throws QemuGuestAgentNotEnabled without image property `hw_qemu_guest_agent`, InternalError for libvirt's refusal
 */
export async function setQuiesced(domain: Domain, instance: InstanceSpec, quiesced: boolean): Promise<void> {
  if (!hardwareOf(instance).guestAgent) throw new QemuGuestAgentNotEnabled('QEMU guest agent is not enabled');
  try {
    await (quiesced ? domain.freezeFileSystems() : domain.thawFileSystems());
  } catch (error) {
    if (!isLibvirtError(error)) throw error;
    throw new InternalError(
      `Error from libvirt while quiescing ${instance.name}: [Error Code ${error.code}] ${error.message}`,
      { cause: error },
    );
  }
}

/** Puts the clock of a guest right that did not run for a while, if it has an agent that does it. */
export async function syncGuestTime(domain: Domain, instance: InstanceSpec, logger: Logger): Promise<void> {
  if (!hardwareOf(instance).guestAgent) return;
  try {
    await domain.setTime(Date.now());
  } catch (error) {
    logger.info({ instance: instance.uuid }, `the guest's clock was not set: ${describeError(error)}`);
  }
}

/** @throws InstanceNotRunning, TriggerCrashDumpNotSupported */
export async function triggerCrashDump(domain: Domain): Promise<void> {
  try {
    await domain.injectNmi();
  } catch (error) {
    if (isLibvirtError(error, ErrorCode.OPERATION_INVALID)) {
      throw new InstanceNotRunning(`Instance ${domain.uuid} is not running.`, { cause: error });
    }
    if (isLibvirtError(error, ErrorCode.NO_SUPPORT)) {
      throw new TriggerCrashDumpNotSupported('Triggering crash dump is not supported', { cause: error });
    }
    throw error;
  }
}
