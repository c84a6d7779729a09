/**
 * A clone becoming someone, beside a cold boot of the same image with the same flavor on the same host, turn and turn about:
 * until it is ready (resources in use, user's key in, network up, sshd answering), and until its cloud-init is done.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { FlavorSpec, InstanceSpec } from '../../drivers/driver';
import { addressOf, reportOf, UvmHost } from '../functional/support/uvm-host';
import { run } from '../support/servers';
import { type Figure, figure } from './figures';
import { mostVcpus } from './growing-vcpus';
import type { BenchOptions } from './main';

const SUITES = ['debian-11', 'debian-12', 'debian-13'];
const PEER = 'cold boot';
const BASE_MEMORY_MB = 512;
const USUAL_VCPUS = 4;
const TIMEOUT_MS = 900_000;
const RETRY_MS = 20;
const ANSWER_TIMEOUT_MS = 5_000;
const SSH_PORT = 22;

interface Becoming {
  readonly readyMs: number;
  readonly doneMs: number;
  /** By the gate's own word, and each step in the guest; none of a cold boot. */
  readonly steps: ReadonlyMap<string, number>;
}

function flavorOf(suite: string): FlavorSpec {
  const vcpus = mostVcpus(suite) ?? USUAL_VCPUS;
  const memoryMb = BASE_MEMORY_MB + 1024;
  return { name: 'bench', vcpus, memoryMb, rootGb: 10, ephemeralGb: 0, swapMb: 0, extraSpecs: {} };
}

/** Whether an SSH server says hello there. */
function sshAnswers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port: SSH_PORT });
    const end = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => end(false));
    socket.once('data', (data) => end(data.toString('latin1').startsWith('SSH-2.0')));
    for (const event of ['error', 'close']) socket.once(event, () => end(false));
  });
}

async function untilSsh(host: UvmHost, instance: InstanceSpec): Promise<void> {
  const endMs = performance.now() + TIMEOUT_MS;
  let reachable = false;
  while (performance.now() < endMs) {
    // The bridge comes with the first server; asking for it again and again would take the guest's time.
    reachable ||= await host.giveBridgeAddress().then(
      () => true,
      () => false,
    );
    if (reachable && (await sshAnswers(addressOf(instance)))) return;
    await delay(RETRY_MS);
  }
  throw new Error(`no SSH server answered on ${addressOf(instance)} in ${TIMEOUT_MS} ms`);
}

/** Starts a server, waits for what is measured, and removes it. */
async function become(host: UvmHost, suite: string, key: string, cold: boolean): Promise<Becoming> {
  const instance = host.server(flavorOf(suite));
  const changes = cold ? { template: { none: 'the bench wants a cold boot' } } : {};
  const request = await host.request(instance, changes, { publicKeys: [key] });
  const beganAt = performance.now();
  const since = (): number => performance.now() - beganAt;
  try {
    const steps = new Map<string, number>();
    const answering = untilSsh(host, instance);
    answering.catch(() => undefined);
    const outcome = await host.driver.spawn(request);
    if (!cold) {
      const report = await reportOf(outcome);
      steps.set('by the gate', since());
      for (const [name, ms] of Object.entries(report.stepsMs)) steps.set(`${name}, after the resume`, ms);
    }
    await answering;
    const readyMs = since();
    await host.whoIs(instance, TIMEOUT_MS);
    return { readyMs, doneMs: since(), steps };
  } finally {
    await host.driver.destroy(instance);
  }
}

async function measureSuite(suite: string, key: string, { runs, say }: BenchOptions): Promise<Figure[]> {
  const host = await UvmHost.start({
    imageFile: `${suite}.qcow2`,
    baseMemoryMb: BASE_MEMORY_MB,
    bakeTimeoutS: TIMEOUT_MS / 1000,
    gateTimeoutMs: TIMEOUT_MS,
    maxVcpus: mostVcpus(suite) ?? 16,
    maxMemoryMb: 65_536,
  });
  try {
    say(`${suite}: baking`);
    await host.baker.bake(host.image);
    const ours: Becoming[] = [];
    const theirs: Becoming[] = [];
    for (let number = 1; number <= runs; number += 1) {
      ours.push(await become(host, suite, key, false));
      theirs.push(await become(host, suite, key, true));
      const told = [ours.at(-1), theirs.at(-1)].map(
        (one) => `${one?.readyMs.toFixed()} ${one?.doneMs.toFixed()}`,
      );
      say(`${suite}, run ${number}, ms to ready and done: ${told[0]}, ${PEER} ${told[1]}`);
    }
    const compare = (what: string, of: (one: Becoming) => number, limit: number): Figure =>
      figure({
        name: `${suite}: restore to ${what}`,
        unit: 'ms',
        values: ours.map(of),
        peer: { name: PEER, values: theirs.map(of) },
        goal: { of: 'ratio', bound: 'at most', limit },
      });
    return [
      compare('ready', ({ readyMs }) => readyMs, 1 / 40),
      compare('cloud-init done', ({ doneMs }) => doneMs, 1 / 5),
      ...[...(ours[0]?.steps.keys() ?? [])].map((name) =>
        figure({
          name: `${suite}: ready ${name}`,
          unit: 'ms',
          values: ours.map(({ steps }) => steps.get(name) ?? NaN),
        }),
      ),
    ];
  } finally {
    await host.stop();
  }
}

/** Each suite is baked here first, on a host of the bench's own; nothing of the cloud is used but its image files. */
export async function identity(options: BenchOptions): Promise<Figure[]> {
  const directory = await mkdtemp(join(tmpdir(), 'prebake-bench-'));
  try {
    const path = join(directory, 'id');
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'bench', '-f', path], {
      timeout: 10_000,
    });
    const key = (await readFile(`${path}.pub`, 'utf8')).trim();
    const figures: Figure[] = [];
    for (const suite of options.suites ?? SUITES) figures.push(...(await measureSuite(suite, key, options)));
    return figures;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
