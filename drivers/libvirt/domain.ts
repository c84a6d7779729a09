/**
 * One guest as libvirt knows it. A `Domain` is a name, not a handle: each call looks the domain up anew (0.2 ms), so it
 * stays good across restarts of the daemon and there is nothing to free. Every method rejects with InstanceNotFound when
 * the domain is gone, HypervisorUnavailable when the daemon is, and LibvirtError otherwise.
 */
import { z } from 'zod';
import { binding, type Out, type Pointer } from './binding';
import type { LibvirtConnection } from './connection';
import type { Lane } from './lane';

const CALL_DEADLINE_MS = 30_000;
/** Starting QEMU, or waiting for libvirt to kill one that does not want to. */
const LONG_DEADLINE_MS = 120_000;
/** All of a guest's memory goes to disk, or comes from there. */
const SAVE_DEADLINE_MS = 30 * 60_000;

/** virDomainState */
export enum DomainState {
  NOSTATE = 0,
  RUNNING = 1,
  BLOCKED = 2,
  PAUSED = 3,
  SHUTDOWN = 4,
  SHUTOFF = 5,
  CRASHED = 6,
  PMSUSPENDED = 7,
}

/** What a change of a device applies to: the running guest, its lasting definition, or both. */
export interface Affect {
  readonly live: boolean;
  readonly config: boolean;
}

/** virDomainJobType */
export enum JobType {
  NONE = 0,
  BOUNDED = 1,
  UNBOUNDED = 2,
  COMPLETED = 3,
  FAILED = 4,
  CANCELLED = 5,
}

const LIVE: Affect = { live: true, config: false };
const START_PAUSED = 1;
/** VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | SNAPSHOTS_METADATA | NVRAM | CHECKPOINTS_METADATA */
const UNDEFINE_ALL = 1 | 2 | 4 | 16;
/** VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN */
const ACPI_POWER_BUTTON = 1;
/** VIR_DOMAIN_BLOCK_RESIZE_BYTES */
const SIZE_IN_BYTES = 1;
/** VIR_DOMAIN_XML_SECURE, VIR_DOMAIN_XML_INACTIVE */
const XML_SECURE = 1;
const XML_INACTIVE = 2;
/** VIR_DOMAIN_JOB_STATS_COMPLETED */
const STATS_OF_COMPLETED = 1;

/** A guest that was there when this object was made. */
export class Domain {
  constructor(
    private readonly connection: LibvirtConnection,
    readonly uuid: string,
    readonly name: string,
  ) {}

  /** Starts a defined guest that does not run. */
  async start({ paused }: { readonly paused: boolean }): Promise<void> {
    const flags = paused ? START_PAUSED : 0;
    await this.call(
      'virDomainCreateWithFlags',
      (d) => binding().virDomainCreateWithFlags(d, flags),
      LONG_DEADLINE_MS,
    );
  }
  async suspend(): Promise<void> {
    await this.call('virDomainSuspend', (d) => binding().virDomainSuspend(d));
  }
  async resume(): Promise<void> {
    await this.call('virDomainResume', (d) => binding().virDomainResume(d));
  }
  /** Pulls the plug. */
  async destroy(): Promise<void> {
    await this.call('virDomainDestroyFlags', (d) => binding().virDomainDestroyFlags(d, 0), LONG_DEADLINE_MS);
  }
  /** Presses the power button; returns before the guest reacted. */
  async shutdown(): Promise<void> {
    await this.call('virDomainShutdownFlags', (d) => binding().virDomainShutdownFlags(d, ACPI_POWER_BUTTON));
  }
  /** Asks the guest to reboot; returns before it reacted. */
  async reboot(): Promise<void> {
    await this.call('virDomainReboot', (d) => binding().virDomainReboot(d, 0));
  }
  /** Presses the reset button. */
  async reset(): Promise<void> {
    await this.call('virDomainReset', (d) => binding().virDomainReset(d, 0));
  }
  /** Forgets the lasting definition and all that libvirt keeps beside it; a running guest becomes a transient one. */
  async undefine(): Promise<void> {
    await this.call('virDomainUndefineFlags', (d) => binding().virDomainUndefineFlags(d, UNDEFINE_ALL));
  }
  async isPersistent(): Promise<boolean> {
    return (await this.call('virDomainIsPersistent', (d) => binding().virDomainIsPersistent(d))) === 1;
  }
  /** Drops a saved memory image, if there is one, so that the next start is a fresh one. */
  async removeManagedSave(): Promise<void> {
    const saved = (d: Pointer): Promise<number> => binding().virDomainHasManagedSaveImage(d, 0);
    if ((await this.call('virDomainHasManagedSaveImage', saved)) === 0) return;
    await this.call('virDomainManagedSaveRemove', (d) => binding().virDomainManagedSaveRemove(d, 0));
  }

  async hasManagedSave(): Promise<boolean> {
    const saved = (d: Pointer): Promise<number> => binding().virDomainHasManagedSaveImage(d, 0);
    return (await this.call('virDomainHasManagedSaveImage', saved)) === 1;
  }
  /** Writes the guest's memory to a file of libvirt's and ends it; its next start goes on from there. */
  async managedSave(): Promise<void> {
    const save = (d: Pointer): Promise<number> => binding().virDomainManagedSave(d, 0);
    await this.call('virDomainManagedSave', save, SAVE_DEADLINE_MS);
  }
  /** The domain as it was saved. */
  async managedSaveXml(): Promise<string> {
    const call = 'virDomainManagedSaveGetXMLDesc';
    return await this.onDomain(call, CALL_DEADLINE_MS, (d, lane) =>
      lane.value(call, binding().virDomainManagedSaveGetXMLDesc(d, XML_SECURE)),
    );
  }
  /** Changes the saved domain, as far as the guest cannot tell. */
  async defineManagedSaveXml(xml: string): Promise<void> {
    await this.call('virDomainManagedSaveDefineXML', (d) =>
      binding().virDomainManagedSaveDefineXML(d, xml, 0),
    );
  }
  /** Starts a saved guest where it was. */
  async restore(): Promise<void> {
    const create = (d: Pointer): Promise<number> => binding().virDomainCreateWithFlags(d, 0);
    await this.call('virDomainCreateWithFlags', create, SAVE_DEADLINE_MS);
  }
  async injectNmi(): Promise<void> {
    await this.call('virDomainInjectNMI', (d) => binding().virDomainInjectNMI(d, 0));
  }
  /** Has the guest agent set a password. */
  async setUserPassword(user: string, password: string): Promise<void> {
    await this.call('virDomainSetUserPassword', (d) =>
      binding().virDomainSetUserPassword(d, user, password, 0),
    );
  }
  /** Has the guest agent set the clock. */
  async setTime(timeMs: number): Promise<void> {
    const seconds = Math.floor(timeMs / 1000);
    const nanoseconds = Math.floor(timeMs % 1000) * 1_000_000;
    await this.call('virDomainSetTime', (d) => binding().virDomainSetTime(d, seconds, nanoseconds, 0));
  }
  /** Has libvirt fill a structure of `sizeBytes`. @returns the call's number and the structure */
  async fill(
    name: string,
    sizeBytes: number,
    work: (domain: Pointer, into: Buffer) => Promise<number>,
  ): Promise<{ readonly count: number; readonly data: Buffer }> {
    const data = Buffer.alloc(sizeBytes);
    return { count: await this.call(name, (d) => work(d, data)), data };
  }

  async state(): Promise<{ readonly state: DomainState; readonly reason: number }> {
    const state: Out<number> = [0];
    const reason: Out<number> = [0];
    await this.call('virDomainGetState', (d) => binding().virDomainGetState(d, state, reason, 0));
    return { state: domainState.parse(state[0]), reason: reason[0] };
  }
  /** The domain's XML: the running one, or with `inactive` the one of its next start. */
  async xmlDesc({ inactive = false, secure = false } = {}): Promise<string> {
    const flags = (inactive ? XML_INACTIVE : 0) | (secure ? XML_SECURE : 0);
    return await this.onDomain('virDomainGetXMLDesc', CALL_DEADLINE_MS, (d, lane) =>
      lane.value('virDomainGetXMLDesc', binding().virDomainGetXMLDesc(d, flags)),
    );
  }

  async attachDevice(xml: string, affect = LIVE): Promise<void> {
    const flags = affectFlags(affect);
    await this.call('virDomainAttachDeviceFlags', (d) => binding().virDomainAttachDeviceFlags(d, xml, flags));
  }
  /** Asks the guest to let go of a device; it is gone when the event `device-removed` says so. */
  async detachDevice(xml: string, affect = LIVE): Promise<void> {
    const flags = affectFlags(affect);
    await this.call('virDomainDetachDeviceFlags', (d) => binding().virDomainDetachDeviceFlags(d, xml, flags));
  }
  async updateDevice(xml: string, affect = LIVE): Promise<void> {
    const flags = affectFlags(affect);
    await this.call('virDomainUpdateDeviceFlags', (d) => binding().virDomainUpdateDeviceFlags(d, xml, flags));
  }
  async setVcpus(vcpus: number, affect = LIVE): Promise<void> {
    const flags = affectFlags(affect);
    await this.call('virDomainSetVcpusFlags', (d) => binding().virDomainSetVcpusFlags(d, vcpus, flags));
  }
  /** Sets the balloon's target. */
  async setMemory(memoryKib: number, affect = LIVE): Promise<void> {
    const flags = affectFlags(affect);
    await this.call('virDomainSetMemoryFlags', (d) => binding().virDomainSetMemoryFlags(d, memoryKib, flags));
  }
  /** @param disk target (`vda`) or path */
  async blockResize(disk: string, sizeBytes: number): Promise<void> {
    await this.call('virDomainBlockResize', (d) =>
      binding().virDomainBlockResize(d, disk, sizeBytes, SIZE_IN_BYTES),
    );
  }

  /** Begins to copy disks, as they are at this moment, into other files; the guest goes on. It is a job of the domain. */
  async beginBackup(backupXml: string): Promise<void> {
    await this.call('virDomainBackupBegin', (d) => binding().virDomainBackupBegin(d, backupXml, null, 0));
  }
  /** Gives up the domain's job. */
  async abortJob(): Promise<void> {
    await this.call('virDomainAbortJob', (d) => binding().virDomainAbortJob(d));
  }
  /** What the domain's job is; with `completed` how the last one ended, told once. */
  async job({ completed = false } = {}): Promise<JobType> {
    const type: Out<number> = [0];
    const parameters: Out<Pointer> = [null];
    const count: Out<number> = [0];
    const flags = completed ? STATS_OF_COMPLETED : 0;
    await this.call('virDomainGetJobStats', (d) =>
      binding().virDomainGetJobStats(d, type, parameters, count, flags),
    );
    if (parameters[0] !== null) binding().virTypedParamsFree(parameters[0], count[0]);
    return jobType.parse(type[0]);
  }
  /** Has the guest agent bring all file systems to rest. */
  async freezeFileSystems(): Promise<void> {
    await this.call('virDomainFSFreeze', (d) => binding().virDomainFSFreeze(d, null, 0, 0), LONG_DEADLINE_MS);
  }
  async thawFileSystems(): Promise<void> {
    await this.call('virDomainFSThaw', (d) => binding().virDomainFSThaw(d, null, 0, 0), LONG_DEADLINE_MS);
  }

  /**
   * Sends a command to QEMU's monitor and returns the content of `return`.
   * An error of QEMU is a `MonitorError`; the caller validates what it uses of the answer.
   */
  async monitor(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    const text = monitorCommand(command, args);
    const result: Out<Pointer> = [null];
    await this.call('virDomainQemuMonitorCommand', (d) =>
      binding().virDomainQemuMonitorCommand(d, text, result, 0),
    );
    return monitorResult(command, result[0]);
  }
  /** As `monitor`, passing the file descriptor `fd` along (for `getfd`); QEMU gets a duplicate. libvirt 8.2 or later. */
  async monitorWithFd(
    command: string,
    args: Readonly<Record<string, unknown>>,
    fd: number,
  ): Promise<unknown> {
    const text = monitorCommand(command, args);
    const files = Int32Array.of(fd);
    const result: Out<Pointer> = [null];
    await this.call('virDomainQemuMonitorCommandWithFiles', (d) =>
      binding().virDomainQemuMonitorCommandWithFiles(d, text, 1, files, null, null, result, 0),
    );
    return monitorResult(command, result[0]);
  }

  private async call(
    name: string,
    work: (domain: Pointer) => Promise<number>,
    deadlineMs = CALL_DEADLINE_MS,
  ): Promise<number> {
    return await this.onDomain(name, deadlineMs, (domain, lane) => lane.count(name, work(domain)));
  }

  private async onDomain<T>(
    name: string,
    deadlineMs: number,
    work: (domain: Pointer, lane: Lane) => Promise<T>,
  ): Promise<T> {
    return await this.connection.use(name, deadlineMs, async (lane) => {
      const looking = binding().virDomainLookupByUUIDString(lane.connection, this.uuid);
      const domain = await lane.value('virDomainLookupByUUIDString', looking);
      try {
        return await work(domain, lane);
      } finally {
        binding().virDomainFree(domain);
      }
    });
  }
}

/** QEMU refused a monitor command; `qemuClass` is its error class, mostly `GenericError`. */
export class MonitorError extends Error {
  constructor(
    readonly command: string,
    readonly qemuClass: string,
    message: string,
  ) {
    super(`${command}: ${message}`);
    this.name = 'MonitorError';
  }
}

const domainState = z.enum(DomainState);
const jobType = z.enum(JobType);
const monitorAnswer = z.object({
  return: z.unknown().optional(),
  error: z.object({ class: z.string(), desc: z.string() }).optional(),
});

function affectFlags({ live, config }: Affect): number {
  return (live ? 1 : 0) | (config ? 2 : 0);
}

function monitorCommand(command: string, args?: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(args === undefined ? { execute: command } : { execute: command, arguments: args });
}

function monitorResult(command: string, result: Pointer): unknown {
  if (result === null) throw new MonitorError(command, 'GenericError', 'the monitor did not answer');
  const answer = monitorAnswer.parse(JSON.parse(binding().takeString(result)));
  if (answer.error !== undefined) throw new MonitorError(command, answer.error.class, answer.error.desc);
  return answer.return;
}
