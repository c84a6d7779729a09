/** What of the configuration concerns the engine that makes and proves µVMs. */
import type { UvmSettings } from '../../drivers/libvirt/uvm';
import type { Config } from '../config';

/** Of this host. */
export function uvmSettings({ prebake }: Config): UvmSettings {
  const { maxVcpus, maxMemoryMb, gateTimeoutS } = prebake;
  return { maxVcpus, maxMemoryMb, gateTimeoutMs: gateTimeoutS * 1000 };
}
