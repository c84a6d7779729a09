/**
 * How many get_host_uptime calls a second a compute service answers to 64 callers, how long the slowest hundredth waits, and
 * what the service costs while nothing happens. The peer is stock nova-compute with Nova's fake driver on the same broker.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { loadConfig } from '../../lib/config';
import { ComputeProcess } from '../support/compute-process';
import { NOVA_CONF, NovaApi } from '../support/nova-api';
import { FAKE_HOST, FakeCompute } from './fake-compute';
import { type Figure, figure, quantile } from './figures';
import type { BenchOptions } from './main';
import { processorSeconds, residentMib } from './process-usage';
import { type Burst as Order, burstResultSchema } from './rpc-burst';

const CALLERS = 64;
const WARM_UP_MS = 2000;
const MEASURE_MS = 5000;
/** A report to Nova every 10 s, an audit every minute: what a service does when nothing is asked of it. */
const IDLE_MS = 60_000;
const TIMEOUT_MS = 60_000;
const PEER = 'nova-compute with the fake driver';
const CALLERS_PROCESS = join(__dirname, 'rpc-callers.ts');

interface Burst {
  readonly callsPerSecond: number;
  readonly p99Ms: number;
}

/** Has all callers call, one call after the other each, for a while. */
async function burst(transportUrl: string, host: string, durationMs: number): Promise<Burst> {
  const child = spawn(process.execPath, [...process.execArgv, CALLERS_PROCESS], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const order: Order = { transportUrl, host, callers: CALLERS, durationMs, timeoutMs: TIMEOUT_MS };
  child.stdin.end(JSON.stringify(order));
  const { seconds, timesMs } = burstResultSchema.parse(JSON.parse(await text(child.stdout)));
  return { callsPerSecond: timesMs.length / seconds, p99Ms: quantile(timesMs, 0.99) };
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
  say('starting prebake and a stock nova-compute with the fake driver');
  const prebake = await ComputeProcess.start();
  try {
    const fake = await FakeCompute.start(nova);
    try {
      const { transportUrl, host } = config.default;
      return await measure(transportUrl, host, prebake.pid, fake.pid, { runs, say });
    } finally {
      await fake.stop();
    }
  } finally {
    await prebake.stop();
  }
}

async function measure(
  transportUrl: string,
  host: string,
  pid: number,
  peerPid: number,
  { runs, say }: BenchOptions,
): Promise<Figure[]> {
  for (const name of [host, FAKE_HOST]) await burst(transportUrl, name, WARM_UP_MS);
  const ours: Burst[] = [];
  const theirs: Burst[] = [];
  for (let run = 1; run <= runs; run++) {
    ours.push(await burst(transportUrl, host, MEASURE_MS));
    theirs.push(await burst(transportUrl, FAKE_HOST, MEASURE_MS));
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
