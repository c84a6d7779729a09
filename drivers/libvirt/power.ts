/** Power of one guest: off, on, reboot, pause, each to a definite end. Waiting is done by libvirt's events. */
import { InstanceInvalidState, InstanceNotFound } from '../../lib/exceptions';
import { PowerState } from '../driver';
import type { LibvirtConnection } from './connection';
import { DomainState, type Domain } from './domain';
import { ErrorCode, isLibvirtError } from './libvirt-error';

/** A guest that was busy when the button was pressed gets another chance, as by Nova. */
const PRESS_AGAIN_MS = 10_000;

/** Nova's word for libvirt's state (nova/virt/libvirt/guest.py, LIBVIRT_POWER_STATE). */
export function powerStateOf(state: DomainState): PowerState {
  switch (state) {
    // A guest that is shutting down still runs; one that waits for a device as well.
    case DomainState.NOSTATE:
    case DomainState.RUNNING:
    case DomainState.BLOCKED:
    case DomainState.SHUTDOWN:
      return PowerState.RUNNING;
    case DomainState.PAUSED:
      return PowerState.PAUSED;
    case DomainState.SHUTOFF:
      return PowerState.SHUTDOWN;
    case DomainState.CRASHED:
      return PowerState.CRASHED;
    case DomainState.PMSUSPENDED:
      return PowerState.SUSPENDED;
  }
}

/** Presses the power button until the guest is off; false when it is not by `timeoutMs`. */
export async function shutDown(
  connection: LibvirtConnection,
  domain: Domain,
  timeoutMs: number,
): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  const stopped = waitForStop(connection, domain.uuid);
  try {
    for (;;) {
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) return false;
      if (!(await pressButton(domain))) return true;
      if (await stopped.within(Math.min(leftMs, PRESS_AGAIN_MS))) return true;
      // The event may have been lost with a restart of libvirtd.
      if (await isOff(domain)) return true;
    }
  } finally {
    stopped.cancel();
  }
}

/** Pulls the plug, if it is in. */
export async function pullPlug(domain: Domain): Promise<void> {
  try {
    await domain.destroy();
  } catch (error) {
    // It ended by itself, or its definition was all there was.
    if (!isLibvirtError(error, ErrorCode.OPERATION_INVALID) || !(await isOff(domain))) throw error;
  }
}

/** Pauses a running guest. @throws InstanceInvalidState for one that is off */
export async function pause(domain: Domain): Promise<void> {
  if (await isOff(domain)) throw new InstanceInvalidState(`Instance ${domain.uuid} is not running`);
  await domain.suspend();
}

/** Lets a paused guest go on; nothing for one that runs. */
export async function unpause(domain: Domain): Promise<void> {
  const { state } = await domain.state();
  if (state === DomainState.PAUSED) await domain.resume();
  else if (powerStateOf(state) !== PowerState.RUNNING) {
    throw new InstanceInvalidState(`Instance ${domain.uuid} is not paused`);
  }
}

/** Whether no process runs the guest (any more). */
export async function isOff(domain: Domain): Promise<boolean> {
  try {
    const { state } = await domain.state();
    return state === DomainState.SHUTOFF || state === DomainState.CRASHED;
  } catch (error) {
    if (error instanceof InstanceNotFound) return true;
    throw error;
  }
}

/** @returns false when the guest is off already */
async function pressButton(domain: Domain): Promise<boolean> {
  try {
    await domain.shutdown();
    return true;
  } catch (error) {
    if (error instanceof InstanceNotFound) return false;
    if (isLibvirtError(error, ErrorCode.OPERATION_INVALID) && (await isOff(domain))) return false;
    throw error;
  }
}

interface StopWatch {
  /** Whether the guest stopped since the watch began, or does within this time. */
  within(timeoutMs: number): Promise<boolean>;
  cancel(): void;
}

function waitForStop(connection: LibvirtConnection, uuid: string): StopWatch {
  let resolve: () => void = () => undefined;
  const stopped = new Promise<void>((done) => {
    resolve = done;
  });
  const cancel = connection.onDomainEvent((event) => {
    if (event.uuid === uuid && event.kind === 'stopped') resolve();
  });
  return {
    cancel,
    async within(timeoutMs) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<false>((done) => {
        timer = setTimeout(() => done(false), timeoutMs);
      });
      try {
        return await Promise.race([stopped.then(() => true), late]);
      } finally {
        clearTimeout(timer);
      }
    },
  };
}
