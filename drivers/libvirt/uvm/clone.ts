/**
 * One clone on its way from a file to a guest that runs, step by step: start, load device state, and grow.
 * Used for servers and for proofs alike; knows neither Nova's order of things nor what to do on failure.
 */
import type { UvmTemplate } from '../../driver';
import type { Domain } from '../domain';
import type { DriverParts } from '../uvm-engine';
import type { XmlNode } from '../xml';
import { dimmXml, uvmDomainXml } from './layout';
import { loadDeviceState } from './migration';

/** Files and names of a clone. */
export interface CloneSpec {
  readonly name: string;
  readonly uuid: string;
  readonly directory: string;
  readonly diskPath: string;
  /** A file of its final size; what is in it counts when the guest runs. */
  readonly drivePath: string;
  readonly gateSocketPath: string;
  readonly consoleLogPath: string;
  readonly serialPorts: readonly number[];
  /** Limits of the root disk; a guest cannot tell. */
  readonly ioTune?: XmlNode | undefined;
}

/** What a clone gets beyond its µVM. */
export interface CloneGrowth {
  readonly vcpus: number;
  readonly addedMemoryMb: number;
  readonly rootBytes: number;
}

/** Starts a clone's QEMU with the RAM of the µVM; it waits for its NIC and its device state. */
export async function startClone(
  parts: DriverParts,
  uvm: UvmTemplate,
  spec: CloneSpec,
  signal: AbortSignal,
): Promise<Domain> {
  const { emulatorPath, qemuUser } = parts.capabilities();
  const xml = uvmDomainXml({
    ...spec,
    memoryMb: uvm.memoryMb,
    platform: uvm.platform,
    settings: parts.settings,
    emulatorPath,
    ramPath: uvm.ramPath,
    // QEMU opens it for writing. Only root may be trusted with what other servers start from.
    ramCopyFor: qemuUser.uid === 0 ? undefined : qemuUser,
    role: 'clone',
  });
  const domain = await parts.connection.createXml(xml, { paused: true });
  signal.throwIfAborted();
  return domain;
}

/**
 * Gives a clone that was started its NIC and the device state of the µVM; leaves it paused. Before the state is loaded QEMU
 * takes a device as one that was always there, and the guest has none to find. To be saved it needs `makeSavable`.
 */
export async function loadClone(
  domain: Domain,
  uvm: Pick<UvmTemplate, 'statePath' | 'platform'>,
  nicXml: string,
  signal: AbortSignal,
): Promise<void> {
  await domain.attachDevice(nicXml);
  await loadDeviceState(domain, uvm.statePath, uvm.platform.qemuMajorVersion, signal);
}

/** Gives a clone the processors, memory and root disk of its flavor, paused or running. */
export async function growClone(domain: Domain, growth: CloneGrowth): Promise<void> {
  if (growth.vcpus > 1) await domain.setVcpus(growth.vcpus);
  if (growth.addedMemoryMb > 0) await domain.attachDevice(dimmXml(growth.addedMemoryMb));
  await domain.blockResize('vda', growth.rootBytes);
}
