/** A clone for the proof of a µVM: without network it becomes someone, gets resources, and says who it is. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { buildIdentifyMessage, GateClient, HOTPLUG_STEP_MB } from '../../../lib/bake';
import { InstanceNotFound } from '../../../lib/exceptions';
import type { ProofClone, ProofRequest } from '../../driver';
import type { BaseImage } from '../image-cache';
import type { DriverParts } from '../uvm-engine';
import { growClone, startClone } from './clone';
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
  { uvm, identity, directory, signal }: ProofRequest,
  base: BaseImage,
  timeoutMs: number,
): Promise<ProofClone> {
  const tag = randomBytes(4).toString('hex');
  const spec = {
    name: `${BAKE_PREFIX}proof-${tag}`,
    uuid: identity.uuid,
    directory,
    diskPath: join(directory, `proof-${tag}.qcow2`),
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
  let gate: GateClient | undefined;
  try {
    const domain = await startClone(parts, uvm, spec, signal);
    await growClone(domain, growth);
    gate = await GateClient.connect(spec.gateSocketPath, { deadlineMs: CONNECT_TIMEOUT_MS, signal });
    const message = buildIdentifyMessage(identity, [], {
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
