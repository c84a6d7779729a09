/**
 * How many get_host_uptime calls a second a compute service answers to 64 callers, how long the slowest hundredth waits, and
 * what the service costs while nothing happens. The peer is stock nova-compute with Nova's fake driver on the same broker.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pino from 'pino';
import { loadConfig } from '../../lib/config';
import { Messaging, RequestContext } from '../../lib/messaging';
import { ComputeProcess } from '../support/compute-process';
import { NOVA_CONF, NovaApi } from '../support/nova-api';
import { FAKE_HOST, FakeCompute } from './fake-compute';
import { type Figure, figure, quantile } from './figures';
import type { BenchOptions } from './main';
import { processorSeconds, residentMib } from './process-usage';

const CALLERS = 64;
const WARM_UP_MS = 2000;
const MEASURE_MS = 5000;
/** A report to Nova every 10 s, an audit every minute: what a service does when nothing is asked of it. */
const IDLE_MS = 60_000;
const TIMEOUT_MS = 60_000;
const PEER = 'nova-compute with the fake driver';

interface Burst {
  readonly callsPerSecond: number;
  readonly p99Ms: number;
}

/** Has all callers call, one call after the other each, for a while. */
async function burst(messaging: Messaging, host: string, durationMs: number): Promise<Burst> {
  const context = RequestContext.admin();
  const times: number[] = [];
  const begin = performance.now();
  const caller = async (): Promise<void> => {
    while (performance.now() - begin < durationMs) {
      const asked = performance.now();
      await messaging.call(
        { topic: 'compute', server: host, version: '6.0' },
        'get_host_uptime',
        {},
        { context, timeoutMs: TIMEOUT_MS },
      );
      times.push(performance.now() - asked);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  const seconds = (performance.now() - begin) / 1000;
  return { callsPerSecond: times.length / seconds, p99Ms: quantile(times, 0.99) };
}

/** Percent of one processor that each process uses over the same stretch of time. */
async function idlePercent(pids: readonly number[]): Promise<number[]> {
  const before = await Promise.all(pids.map(processorSeconds));
  await delay(IDLE_MS);
  const after = await Promise.all(pids.map(processorSeconds));
  return after.map((seconds, index) => ((seconds - (before[index] ?? 0)) / (IDLE_MS / 1000)) * 100);
}

export async function rpc({ runs, say }: BenchOptions): Promise<Figure[]> {
  const nova = await NovaApi.login();
  const config = await loadConfig([NOVA_CONF]);
  const messaging = await Messaging.connect({
    transportUrl: config.default.transportUrl,
    connectionName: 'prebake-bench',
    heartbeatS: 60,
    logger: pino({ level: 'silent' }),
  });
  try {
    say('starting prebake and a stock nova-compute with the fake driver');
    const prebake = await ComputeProcess.start();
    try {
      const fake = await FakeCompute.start(nova);
      try {
        return await measure(messaging, config.default.host, prebake.pid, fake.pid, { runs, say });
      } finally {
        await fake.stop();
      }
    } finally {
      await prebake.stop();
    }
  } finally {
    await messaging.close();
  }
}

async function measure(
  messaging: Messaging,
  host: string,
  pid: number,
  peerPid: number,
  { runs, say }: BenchOptions,
): Promise<Figure[]> {
  for (const name of [host, FAKE_HOST]) await burst(messaging, name, WARM_UP_MS);
  const ours: Burst[] = [];
  const theirs: Burst[] = [];
  for (let run = 1; run <= runs; run++) {
    ours.push(await burst(messaging, host, MEASURE_MS));
    theirs.push(await burst(messaging, FAKE_HOST, MEASURE_MS));
    say(`run ${run}: ${JSON.stringify({ prebake: ours.at(-1), stock: theirs.at(-1) })}`);
  }
  say(`both idle for ${IDLE_MS / 1000} s`);
  const [idle = 0, peerIdle = 0] = await idlePercent([pid, peerPid]);
  const against = (values: readonly number[]): { name: string; values: readonly number[] } => ({
    name: PEER,
    values,
  });
  return [
    figure({
      name: 'get_host_uptime',
      unit: 'calls/s',
      values: ours.map((burst) => burst.callsPerSecond),
      peer: against(theirs.map((burst) => burst.callsPerSecond)),
      goal: { of: 'ratio', bound: 'at least', limit: 10 },
    }),
    figure({
      name: `p99 under ${CALLERS} callers`,
      unit: 'ms',
      values: ours.map((burst) => burst.p99Ms),
      peer: against(theirs.map((burst) => burst.p99Ms)),
      goal: { of: 'ratio', bound: 'at most', limit: 0.2 },
    }),
    figure({
      name: 'resident memory',
      unit: 'MiB',
      values: [await residentMib(pid)],
      peer: against([await residentMib(peerPid)]),
      goal: { of: 'ratio', bound: 'at most', limit: 0.5 },
    }),
    figure({
      name: 'processor while idle',
      unit: '%',
      values: [idle],
      peer: against([peerIdle]),
      goal: { of: 'ratio', bound: 'at most', limit: 0.5 },
    }),
  ];
}
