/** A clone for the proof of a µVM: without a carrier it becomes someone, gets resources, and says who it is. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { BAKE_NIC_MAC, buildIdentifyMessage, GateClient, HOTPLUG_STEP_MB } from '../../../lib/bake';
import { InstanceNotFound } from '../../../lib/exceptions';
import type { ProofClone, ProofRequest } from '../../driver';
import type { BaseImage } from '../image-cache';
import type { DriverParts } from '../uvm-engine';
import { writeConfigDrive } from '../config-drive';
import { growClone, loadClone, startClone } from './clone';
import { spareNicXml } from './layout';
import { activateDisks } from './migration';
import { makeRootDisk } from './root-disk';
import { BAKE_PREFIX } from './template-guest';

const VCPUS = 2;
const ADDED_ROOT_BYTES = 1024 ** 3;
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Restores, personalises, asks and ends a clone; its files stay in the directory of the request.
 * @param timeoutMs for the guest to become someone
 */
export async function prove(
  parts: DriverParts,
  { uvm, identity, network, directory, signal }: ProofRequest,
  base: BaseImage,
  timeoutMs: number,
): Promise<ProofClone> {
  const tag = randomBytes(4).toString('hex');
  const spec = {
    name: `${BAKE_PREFIX}proof-${tag}`,
    uuid: identity.uuid,
    directory,
    diskPath: join(directory, `proof-${tag}.qcow2`),
    drivePath: join(directory, `proof-${tag}.iso`),
    gateSocketPath: join(directory, `proof-${tag}`),
    consoleLogPath: join(directory, `proof-${tag}.log`),
    serialPorts: [],
  };
  const growth = {
    vcpus: Math.min(VCPUS, uvm.platform.maxVcpus),
    addedMemoryMb: Math.min(HOTPLUG_STEP_MB, uvm.platform.maxMemoryMb - uvm.memoryMb),
    rootBytes: base.virtualSizeBytes + ADDED_ROOT_BYTES,
  };
  await makeRootDisk(spec.diskPath, uvm.diskDeltaPath, base, signal);
  await writeConfigDrive(spec.drivePath, identity.files, signal);
  let gate: GateClient | undefined;
  try {
    const domain = await startClone(parts, uvm, spec, signal);
    await loadClone(domain, uvm, spareNicXml(network[0]?.address ?? BAKE_NIC_MAC), signal);
    await activateDisks(domain, uvm.platform.qemuMajorVersion);
    await growClone(domain, growth);
    gate = await GateClient.connect(spec.gateSocketPath, { deadlineMs: CONNECT_TIMEOUT_MS, signal });
    const message = buildIdentifyMessage(identity, network, {
      vcpus: growth.vcpus,
      hotplugMemoryMb: growth.addedMemoryMb,
      rootBytes: growth.rootBytes,
      disks: [],
    });
    const call = { timeoutMs, signal };
    const { ready } = gate.identify(message, { ...call, doneTimeoutMs: timeoutMs });
    await domain.resume();
    return { ready: await ready, answers: await gate.ask(call), given: growth };
  } finally {
    gate?.close();
    await end(parts, spec.uuid);
  }
}

async function end(parts: DriverParts, uuid: string): Promise<void> {
  try {
    await (await parts.connection.lookupByUuid(uuid)).destroy();
  } catch (error) {
    if (!(error instanceof InstanceNotFound)) throw error;
  }
}
