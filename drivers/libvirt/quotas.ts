/**
 * Limits that a flavor sets on its servers' disks, NICs and vCPUs by extra specs (`quota:disk_read_iops_sec`,
 * `quota:vif_inbound_average`, `quota:cpu_shares`; nova/virt/libvirt/imagebackend.py: disk_qos, designer.py:
 * set_vif_bandwidth_config, driver.py: _update_guest_cputune). A guest cannot tell those of disks and NICs, so a clone of a
 * µVM has them as any other server.
 */
import { BuildAbortException } from '../../lib/exceptions';
import type { FlavorSpec } from '../driver';
import type { XmlNode } from './xml';

const DISK_LIMITS = [
  'read_bytes_sec',
  'read_iops_sec',
  'write_bytes_sec',
  'write_iops_sec',
  'total_bytes_sec',
  'total_iops_sec',
] as const;
const DIRECTIONS = ['inbound', 'outbound'] as const;
const RATES = ['average', 'peak', 'burst'] as const;

/** `<cputune>`, undefined without limits. @throws BuildAbortException for a limit that is no number */
export function cpuTune({ extraSpecs }: Pick<FlavorSpec, 'extraSpecs'>): XmlNode | undefined {
  const limits = ['shares', 'period', 'quota'].flatMap((name) => {
    const value = limit(extraSpecs, `quota:cpu_${name}`);
    return value === undefined ? [] : [[name, value] as const];
  });
  return limits.length === 0 ? undefined : Object.fromEntries(limits);
}

/** `<iotune>` of each disk, undefined without limits. @throws BuildAbortException for a limit that is no number */
export function ioTune({ extraSpecs }: Pick<FlavorSpec, 'extraSpecs'>): XmlNode | undefined {
  const limits = DISK_LIMITS.flatMap((name) => {
    const value = limit(extraSpecs, `quota:disk_${name}`);
    return value === undefined ? [] : [[name, value] as const];
  });
  return limits.length === 0 ? undefined : Object.fromEntries(limits);
}

/** `<bandwidth>` of each NIC, undefined without limits. @throws BuildAbortException for a limit that is no number */
export function bandwidth({ extraSpecs }: Pick<FlavorSpec, 'extraSpecs'>): XmlNode | undefined {
  const directions = DIRECTIONS.flatMap((direction) => {
    const rates = RATES.flatMap((rate) => {
      const value = limit(extraSpecs, `quota:vif_${direction}_${rate}`);
      return value === undefined ? [] : [[`@${rate}`, value] as const];
    });
    return rates.length === 0 ? [] : [[direction, Object.fromEntries(rates)] as const];
  });
  return directions.length === 0 ? undefined : Object.fromEntries(directions);
}

function limit(extraSpecs: Readonly<Record<string, string>>, name: string): number | undefined {
  const value = extraSpecs[name];
  if (value === undefined) return undefined;
  if (!/^\d{1,15}$/.test(value)) throw new BuildAbortException(`${name} has to be a number, not '${value}'`);
  return Number(value);
}
