/**
 * What a guest has used so far, for administrators (nova/compute/manager.py: get_diagnostics, get_instance_diagnostics).
 */
import { type ComputeDriver, type GuestDiagnostics, PowerState } from '../../drivers/driver';
import { InstanceInvalidState } from '../exceptions';
import {
  CpuDiagnostics,
  Diagnostics,
  DiskDiagnostics,
  type Instance,
  MemoryDiagnostics,
  NicDiagnostics,
  createObject,
} from '../objects';
import type { Power } from './power';

/** Nova's names of power states (nova/compute/power_state.py). */
const STATE_NAMES: Readonly<Record<PowerState, string>> = {
  [PowerState.NOSTATE]: 'pending',
  [PowerState.RUNNING]: 'running',
  [PowerState.PAUSED]: 'paused',
  [PowerState.SHUTDOWN]: 'shutdown',
  [PowerState.CRASHED]: 'crashed',
  [PowerState.SUSPENDED]: 'suspended',
};

/** Answers questions about running guests. */
export class GuestReports {
  constructor(
    private readonly driver: ComputeDriver,
    private readonly power: Power,
    private readonly virtType: string,
  ) {}

  /** In the words of API versions up to 2.47, made of libvirt's. @throws InstanceInvalidState for a guest that is off */
  async legacy(instance: Instance): Promise<Record<string, number>> {
    const report = await this.report(instance);
    const flat: Record<string, number> = { memory: report.maxMemoryKib };
    for (const [cpu, time] of report.cpuTimesNs.entries()) flat[`cpu${cpu}_time`] = time;
    for (const { device, ...disk } of report.disks) {
      flat[`${device}_read_req`] = disk.readRequests;
      flat[`${device}_read`] = disk.readBytes;
      flat[`${device}_write_req`] = disk.writeRequests;
      flat[`${device}_write`] = disk.writeBytes;
      flat[`${device}_errors`] = disk.errors;
    }
    for (const { device, counters } of report.nics) {
      if (device === null || counters === null) continue;
      for (const [name, direction] of [
        ['rx', counters.received],
        ['tx', counters.sent],
      ] as const) {
        flat[`${device}_${name}`] = direction.bytes;
        flat[`${device}_${name}_packets`] = direction.packets;
        flat[`${device}_${name}_errors`] = direction.errors;
        flat[`${device}_${name}_drop`] = direction.drops;
      }
    }
    for (const [name, value] of Object.entries(report.memory)) flat[`memory-${name}`] = value;
    return flat;
  }

  /** The same as an object. @throws InstanceInvalidState for a guest that is off */
  async standard(instance: Instance): Promise<Diagnostics> {
    const report = await this.report(instance);
    const { launchedAt } = instance;
    return createObject(Diagnostics, {
      state: STATE_NAMES[PowerState.RUNNING],
      driver: 'libvirt',
      hypervisor: this.virtType,
      hypervisor_os: 'linux',
      uptime: launchedAt === null ? null : Math.floor((Date.now() - launchedAt.getTime()) / 1000),
      config_drive: instance.configDrive,
      memory_details: createObject(MemoryDiagnostics, {
        maximum: Math.floor(report.maxMemoryKib / 1024),
        used: Math.floor(report.memoryKib / 1024),
      }),
      cpu_details: report.cpuTimesNs.map((time, id) =>
        createObject(CpuDiagnostics, { id, time, utilisation: null }),
      ),
      nic_details: report.nics.map(nicDetails),
      disk_details: report.disks.map((disk) =>
        createObject(DiskDiagnostics, {
          read_bytes: disk.readBytes,
          read_requests: disk.readRequests,
          write_bytes: disk.writeBytes,
          write_requests: disk.writeRequests,
          errors_count: disk.errors,
        }),
      ),
      num_cpus: report.cpuTimesNs.length,
      num_nics: report.nics.length,
      num_disks: report.disks.length,
    });
  }

  private async report(instance: Instance): Promise<GuestDiagnostics> {
    const state = await this.power.powerState(instance);
    if (state !== PowerState.RUNNING) {
      throw new InstanceInvalidState(
        `Instance ${instance.uuid} in power state ${STATE_NAMES[state]}. Cannot get_diagnostics while the instance is in this state.`,
      );
    }
    return await this.driver.getDiagnostics(instance.uuid);
  }
}

function nicDetails({ macAddress, counters }: GuestDiagnostics['nics'][number]): NicDiagnostics {
  const { received, sent } = counters ?? { received: null, sent: null };
  return createObject(NicDiagnostics, {
    mac_address: macAddress,
    rx_octets: received?.bytes ?? null,
    rx_errors: received?.errors ?? null,
    rx_drop: received?.drops ?? null,
    rx_packets: received?.packets ?? null,
    rx_rate: null,
    tx_octets: sent?.bytes ?? null,
    tx_errors: sent?.errors ?? null,
    tx_drop: sent?.drops ?? null,
    tx_packets: sent?.packets ?? null,
    tx_rate: null,
  });
}
