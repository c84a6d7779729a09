/**
 * One clone on its way from a file to a guest that runs, step by step: start paused, load device state, and grow.
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

/** Starts a clone's QEMU, paused, with the RAM and the device state of the µVM. To be saved it needs `makeSavable`. */
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
  await loadDeviceState(domain, uvm.statePath, signal);
  return domain;
}

/** Gives a clone the processors, memory and root disk of its flavor, paused or running. */
export async function growClone(domain: Domain, growth: CloneGrowth): Promise<void> {
  if (growth.vcpus > 1) await domain.setVcpus(growth.vcpus);
  if (growth.addedMemoryMb > 0) await domain.attachDevice(dimmXml(growth.addedMemoryMb));
  await domain.blockResize('vda', growth.rootBytes);
}
