/**
 * How the vCPUs of a server lie in sockets, cores and threads: what its flavor and image prefer (`hw:cpu_sockets`,
 * `hw_cpu_sockets` ...) within what they allow (`hw:cpu_max_sockets` ...), else a socket for each
 * (nova/virt/hardware.py: get_cpu_topology_constraints, get_best_cpu_topology).
 */
import {
  ImageVCPULimitsRangeExceeded,
  ImageVCPULimitsRangeImpossible,
  ImageVCPUTopologyRangeExceeded,
  Invalid,
} from '../../lib/exceptions';
import type { InstanceSpec } from '../driver';

/** Of a domain's `<topology>`; 0 of one that is preferred: no preference. */
export interface CpuTopology {
  readonly sockets: number;
  readonly cores: number;
  readonly threads: number;
}

type Wishes = Pick<InstanceSpec, 'image' | 'flavor'>;

const PARTS = ['sockets', 'cores', 'threads'] as const;
const NO_LIMIT = 65_536;

/** @throws Invalid and what is derived from it for contradictions and for what cannot be had with these vCPUs */
export function cpuTopology({ flavor, image }: Wishes): CpuTopology {
  const most = limits({ flavor, image });
  const wanted = preferred({ flavor, image }, most);
  const possible = divisions(flavor.vcpus).filter((topology) => fits(topology, most));
  const score = (topology: CpuTopology): number =>
    PARTS.filter((part) => wanted[part] > 0 && topology[part] === wanted[part]).length;
  // As few threads as can be, then rather sockets than cores; sort() leaves equals in their order.
  const [best] = possible
    .sort((a, b) => a.threads - b.threads || b.sockets - a.sockets)
    .sort((a, b) => score(b) - score(a));
  if (best !== undefined) return best;
  throw new ImageVCPULimitsRangeImpossible(
    `Requested vCPU limits ${text(most)} are impossible to satisfy for vcpus count ${flavor.vcpus}`,
  );
}

function limits({ flavor, image }: Wishes): CpuTopology {
  const ofFlavor = numbers(flavor.extraSpecs, 'hw:cpu_max_');
  const ofImage = numbers(image.properties, 'hw_cpu_max_');
  if (PARTS.some((part) => ofFlavor[part] > 0 && ofImage[part] > ofFlavor[part])) {
    throw new ImageVCPULimitsRangeExceeded(
      `Image vCPU topology limits ${text(ofImage)} exceed those of the flavor, ${text(ofFlavor)}`,
    );
  }
  return combine((part) => ofImage[part] || ofFlavor[part] || NO_LIMIT);
}

function preferred({ flavor, image }: Wishes, most: CpuTopology): CpuTopology {
  const ofFlavor = numbers(flavor.extraSpecs, 'hw:cpu_');
  const ofImage = numbers(image.properties, 'hw_cpu_');
  if (!fits(ofImage, most)) {
    throw new ImageVCPUTopologyRangeExceeded(
      `Image vCPU topology ${text(ofImage)} exceeds the limits ${text(most)}`,
    );
  }
  // One wish of the image outweighs all of the flavor, which may be made for other limits.
  if (PARTS.some((part) => ofImage[part] > 0)) return ofImage;
  return fits(ofFlavor, most) ? ofFlavor : combine(() => 0);
}

/** Every topology of so many vCPUs. */
function divisions(vcpus: number): CpuTopology[] {
  const divisors = (of: number): number[] =>
    Array.from({ length: of }, (_, index) => index + 1).filter((divisor) => of % divisor === 0);
  return divisors(vcpus).flatMap((sockets) =>
    divisors(vcpus / sockets).map((cores) => ({ sockets, cores, threads: vcpus / sockets / cores })),
  );
}

function fits(topology: CpuTopology, most: CpuTopology): boolean {
  return PARTS.every((part) => topology[part] <= most[part]);
}

function numbers(from: Readonly<Record<string, string>>, prefix: string): CpuTopology {
  return combine((part) => {
    const value = from[`${prefix}${part}`] ?? '0';
    if (!/^\d{1,6}$/.test(value)) throw new Invalid(`${prefix}${part} has to be a number, not '${value}'`);
    return Number(value);
  });
}

function combine(of: (part: (typeof PARTS)[number]) => number): CpuTopology {
  return { sockets: of('sockets'), cores: of('cores'), threads: of('threads') };
}

function text({ sockets, cores, threads }: CpuTopology): string {
  return `${sockets}:${cores}:${threads}`;
}
