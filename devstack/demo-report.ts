/** What the demo has measured, what has to hold of it, and how it is shown. */
import { type ReportedBoot, formatMs, formatTable, waterfall } from '../lib/cli';
import type { GuestFacts } from './demo-cloud';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** One server of the demo. */
export interface DemoServer {
  readonly name: string;
  readonly id: string;
  /** As Nova and Neutron have it. */
  readonly address: string;
  readonly boot: ReportedBoot;
  /** From the boot request until an ssh server answered at the address. */
  readonly sshMs: number;
  readonly facts: GuestFacts;
}

/** The cold boot that is compared with, of this run or an earlier one. */
export interface ColdFigures {
  readonly measuredAt: string;
  readonly imageHash: string;
  readonly flavor: string;
  readonly activeMs: number;
  readonly runningMs: number;
  readonly readyMs: number;
}

export interface Flavor {
  readonly name: string;
  readonly vcpus: number;
  readonly memoryMb: number;
  readonly rootGb: number;
}

export interface Check {
  readonly what: string;
  readonly ok: boolean;
  readonly found: string;
}

export function markMs(boot: ReportedBoot, name: string): number | undefined {
  return boot.marks.find((mark) => mark.name === name)?.atMs;
}

/** A µVM's guest is ready when its gate says so. */
export function readyMs(server: DemoServer): number {
  return markMs(server.boot, 'ready') ?? Number.POSITIVE_INFINITY;
}

/** Everything the demo promises. */
export function checksOf(
  servers: readonly [DemoServer, DemoServer],
  cold: ColdFigures,
  flavor: Flavor,
): Check[] {
  const checks: Check[] = servers.flatMap((server) => {
    const { facts, boot, name } = server;
    const memoryMb = facts.memoryKib / 1024;
    return [
      { what: `${name} started from the µVM`, ok: boot.how === 'uvm', found: boot.how ?? 'not at all' },
      { what: `${name} has its identity and resources`, ok: boot.outcome === 'ready', found: boot.outcome },
      {
        what: `${name} has ${flavor.vcpus} CPUs`,
        ok: facts.vcpus === flavor.vcpus,
        found: `${facts.vcpus}`,
      },
      {
        // The kernel keeps a few percent for itself.
        what: `${name} has ${flavor.memoryMb} MiB of memory`,
        ok: memoryMb > flavor.memoryMb * 0.9 && memoryMb <= flavor.memoryMb,
        found: `${Math.round(memoryMb)} MiB`,
      },
      {
        // So does the file system.
        what: `${name} has a root disk of ${flavor.rootGb} GiB`,
        ok: facts.rootBytes > flavor.rootGb * GIB * 0.9 && facts.rootBytes <= flavor.rootGb * GIB,
        found: `${(facts.rootBytes / GIB).toFixed(1)} GiB`,
      },
      { what: `${name} knows its name`, ok: facts.hostname === name, found: facts.hostname },
      { what: `${name} has its address`, ok: facts.address === server.address, found: facts.address },
    ];
  });
  const [first, second] = servers;
  for (const key of ['hostname', 'address', 'hostKey', 'machineId'] as const) {
    const found = `${first.facts[key]} and ${second.facts[key]}`;
    checks.push({ what: `the two differ in ${key}`, ok: first.facts[key] !== second.facts[key], found });
  }
  const ready = readyMs(first);
  checks.push({
    what: 'ready in a third of a cold boot or less',
    ok: ready * 3 <= cold.readyMs,
    found: `${formatMs(ready)} to ${formatMs(cold.readyMs)}`,
  });
  return checks;
}

/** The figures as `--json FILE` has them; times in milliseconds from the boot request. */
export function figures(
  servers: readonly [DemoServer, DemoServer],
  cold: ColdFigures,
  more: { readonly flavor: Flavor; readonly bakeMs: number; readonly checks: readonly Check[] },
): Record<string, unknown> {
  const [first] = servers;
  const round = (ms: number | undefined): number | null => (ms === undefined ? null : Math.round(ms));
  return {
    running_ms: round(markMs(first.boot, 'running')),
    active_ms: round(markMs(first.boot, 'active')),
    identity_ms: round(markMs(first.boot, 'identity')),
    ready_ms: round(markMs(first.boot, 'ready')),
    ssh_ms: round(first.sshMs),
    cold_running_ms: round(cold.runningMs),
    cold_active_ms: round(cold.activeMs),
    cold_ready_ms: round(cold.readyMs),
    cold_measured_at: cold.measuredAt,
    bake_ms: more.bakeMs,
    flavor: more.flavor,
    servers,
    checks: more.checks,
  };
}

/** The whole report, for people. */
export function formatReport(
  servers: readonly [DemoServer, DemoServer],
  cold: ColdFigures,
  width: number,
): string {
  const [first, second] = servers;
  const ms = (value: number | undefined): string => (value === undefined ? '-' : formatMs(value));
  const row = (
    label: string,
    pick: (server: DemoServer) => number | undefined,
    coldMs: number | undefined,
  ) => [label, ms(pick(first)), ms(pick(second)), ms(coldMs)];
  const mark = (name: string) => (server: DemoServer) => markMs(server.boot, name);
  const times = formatTable(
    ['from the boot request until', first.name, second.name, 'cold boot'],
    [
      row('the guest runs', mark('running'), cold.runningMs),
      row('the server is ACTIVE', mark('active'), cold.activeMs),
      row('it has its identity', mark('identity'), undefined),
      row('it is ready: resources, too', mark('ready'), cold.readyMs),
      row('sshd answers', (server) => server.sshMs, cold.readyMs),
    ],
  );
  const guests = formatTable(
    ['', first.name, second.name],
    [
      ['hostname', first.facts.hostname, second.facts.hostname],
      ['address', first.facts.address, second.facts.address],
      ['CPUs', `${first.facts.vcpus}`, `${second.facts.vcpus}`],
      ...[
        ['memory', (facts: GuestFacts) => `${Math.round((facts.memoryKib * 1024) / MIB)} MiB`] as const,
        ['root disk', (facts: GuestFacts) => `${(facts.rootBytes / GIB).toFixed(1)} GiB`] as const,
      ].map(([label, show]) => [label, show(first.facts), show(second.facts)]),
      ['machine-id', first.facts.machineId, second.facts.machineId],
      ['ssh host key', first.facts.hostKey.slice(0, 24), second.facts.hostKey.slice(0, 24)],
    ],
  );
  return [
    times,
    `(A cold boot is ready when sshd answers with a host key of its own. Measured ${cold.measuredAt}.)`,
    '',
    guests,
    '',
    `Where the milliseconds of ${first.name} went:`,
    ...waterfall(first.boot, width),
  ].join('\n');
}
