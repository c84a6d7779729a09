#!/usr/bin/env node
/**
 * prebake-compute: the service. Read from top to bottom it is the way a boot takes: a request comes in over AMQP, the
 * compute service routes it to the driver, which restores a µVM from the cache and gives it what its flavor adds.
 */
// Every libvirt call in flight holds a thread of libuv's pool; the size counts before the pool's first use.
process.env.UV_THREADPOOL_SIZE ??= '32';

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { LibvirtDriver } from '../drivers/libvirt';
import { LibvirtUvmEngine } from '../drivers/libvirt/uvm';
import { Baker, Templates } from './bake';
import { createClients } from './clients';
import { createComputeService } from './compute';
import { type Config, loadConfig } from './config';
import { describeError } from './exceptions';
import { type Logger, createLogger } from './log';
import { Messaging, type MessagingOptions, RequestContext } from './messaging';
import { Conductor } from './objects';
import { BakeRecorder, BootRecorder, Metrics, createSidecar } from './sidecar';
import { Squirrel, squirrelOptions } from './squirrel';
import { readVersion } from './version';

const DEFAULT_CONFIG_FILES = ['/etc/nova/nova.conf'];

/** Something that was started and has to be ended, last started first. */
interface Started {
  readonly name: string;
  readonly close: () => Promise<void>;
}

/** Runs the service until it is told to stop. */
async function serve(config: Config, logger: Logger, signal: AbortSignal): Promise<void> {
  const started: Started[] = [];
  const closing = <T extends { close: () => Promise<void> }>(name: string, part: T): T => {
    started.push({ name, close: () => part.close() });
    return part;
  };
  try {
    const { glance, neutron, placement } = createClients(config, logger);
    const squirrel = closing('squirrel', await Squirrel.open(squirrelOptions(config, logger)));
    const { maxVcpus, maxMemoryMb, gateTimeoutS } = config.prebake;
    const uvmSettings = { maxVcpus, maxMemoryMb, gateTimeoutMs: gateTimeoutS * 1000 };
    const driver = closing(
      'driver',
      LibvirtDriver.create({
        config,
        glance,
        logger,
        uvm: (parts) => new LibvirtUvmEngine(parts, uvmSettings),
      }),
    );
    const messaging = closing(
      'messaging',
      await Messaging.connect({
        transportUrl: config.default.transportUrl,
        connectionName: `nova-compute:${process.pid}:${randomUUID()}`,
        ...brokerOptions(config),
        logger,
        signal,
      }),
    );
    const metrics = new Metrics();
    const boots = new BootRecorder(metrics);
    const bakes = new BakeRecorder();
    const baker = closing(
      'baker',
      Baker.create({
        squirrel,
        driver,
        config,
        logger,
        onProgress: (progress) => bakes.progress(progress),
        onEnded: (end) => {
          metrics.bakeEnded(end.outcome, end.durationMs);
          bakes.ended(end);
        },
      }),
    );
    const templates = Templates.create({ squirrel, baker, config, logger });
    const conductor = new Conductor(messaging, { timeoutMs: 5_000 });
    let up = false;
    closing(
      'sidecar',
      await createSidecar({
        listen: config.prebake.sidecarListen,
        token: config.prebake.sidecarToken,
        host: config.default.host,
        bakes,
        cache: squirrel,
        actions: {
          bake: async (imageId) => {
            const image = await glance.show(imageId, signal);
            baker
              .bake(image, { signal })
              .catch((error: unknown) => logger.warn(`asked for by the page: ${describeError(error)}`));
          },
          evict: (key) => squirrel.remove(key),
        },
        checks: new Map([
          ['service', () => holds(up, 'still starting')],
          ['amqp', () => holds(messaging.state === 'connected', messaging.state)],
          ['conductor', () => conductor.ping(RequestContext.admin())],
          ['libvirt', () => driver.ping()],
          ['placement', () => placement.ping()],
        ]),
        boots,
        metrics,
        logger,
      }),
    );

    const service = createComputeService({
      config,
      messaging,
      driver,
      glance,
      neutron,
      placement,
      templates,
      squirrel,
      boots,
      logger,
    });
    started.push({ name: 'compute service', close: () => service.stop() });
    neutron
      .prepare()
      .catch((error: unknown) => logger.warn(`Neutron does not answer yet: ${describeError(error)}`));
    await service.start(signal);
    up = true;
    if (!signal.aborted) await once(signal, 'abort');
    logger.info('stopping');
  } finally {
    for (const { name, close } of started.reverse()) {
      await close().catch((error: unknown) =>
        logger.warn(`${name} did not close cleanly: ${describeError(error)}`),
      );
    }
  }
}

function holds(condition: boolean, otherwise: string): Promise<void> {
  return condition ? Promise.resolve() : Promise.reject(new Error(otherwise));
}

function brokerOptions(config: Config): Pick<MessagingOptions, 'heartbeatS' | 'durableQueues' | 'tls'> {
  const rabbit = config.osloMessagingRabbit;
  return {
    heartbeatS: rabbit.heartbeatTimeoutThreshold,
    durableQueues: rabbit.amqpDurableQueues,
    ...(rabbit.ssl
      ? { tls: { caFile: rabbit.sslCaFile, certFile: rabbit.sslCertFile, keyFile: rabbit.sslKeyFile } }
      : {}),
  };
}

/** Where oslo.log would log to: `log_file`, in `log_dir` unless absolute; standard output without both. */
function logFile({ default: { logDir, logFile: name } }: Config): { readonly file?: string } {
  if (logDir === null && name === null) return {};
  return { file: resolve(logDir ?? '.', name ?? 'prebake-compute.log') };
}

async function main(): Promise<void> {
  const { configFile } = new Command('prebake-compute')
    .description('Nova compute service that starts servers from prebaked µVMs')
    .version(readVersion())
    .option(
      '--config-file <path>',
      'nova.conf of this host; may be given several times, later files win (default: /etc/nova/nova.conf)',
      (path: string, paths: string[]) => [...paths, path],
      [],
    )
    .parse()
    .opts<{ configFile: string[] }>();
  const config = await loadConfig(configFile.length > 0 ? configFile : DEFAULT_CONFIG_FILES);
  const logger = createLogger({ level: config.default.debug ? 'debug' : 'info', ...logFile(config) });
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort(new Error(name)));
  try {
    await serve(config, logger, stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`prebake-compute: ${describeError(error)}\n`);
  process.exitCode = 1;
});
