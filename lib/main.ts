#!/usr/bin/env -S node --max-semi-space-size=2
/**
 * prebake-compute: the service. Read from top to bottom it is the way a boot takes: a request comes in over AMQP, the
 * compute service routes it to the driver, which restores a µVM from the cache and gives it what its flavor adds.
 */
// The option above: with the room that V8 usually gives to what is new, an idle service would keep 20 MiB more.
// Every libvirt call in flight holds a thread of libuv's pool; the size counts before the pool's first use.
process.env.UV_THREADPOOL_SIZE ??= '32';

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { LibvirtDriver } from '../drivers/libvirt';
import { LibvirtUvmEngine } from '../drivers/libvirt/uvm';
import { Baker, Templates } from './bake';
import { createClients } from './clients';
import { StillBusy, createComputeService } from './compute';
import { type Config, ConfigPathOptions, defaultConfigPaths, loadConfig, takeMutable } from './config';
import { describeError } from './exceptions';
import { Hoarder, openStore } from './hoard';
import { type Log, type LogLevel, logOf, openLog } from './log';
import { Messaging, type MessagingOptions, RequestContext } from './messaging';
import { Conductor } from './objects';
import { BakeRecorder, BootRecorder, Metrics, createSidecar, watchEventLoop } from './sidecar';
import { handleSignals } from './signals';
import { Squirrel, squirrelOptions } from './squirrel';
import { notifySystemd } from './systemd';
import { startTracing } from './tracing';
import { readVersion } from './version';

/** A part that does not close in this time is left to the end of the process. */
const CLOSE_TIMEOUT_MS = 10_000;

const COMPUTE_SERVICE = 'compute service';

/** Something that was started and has to be ended, last started first. */
interface Started {
  readonly name: string;
  readonly close: () => Promise<void>;
}

/** Runs the service until it is told to stop. */
async function serve(config: Config, { logger }: Log, signal: AbortSignal): Promise<void> {
  const started: Started[] = [];
  const closing = <T extends { close: () => Promise<void> }>(name: string, part: T): T => {
    started.push({ name, close: () => part.close() });
    return part;
  };
  try {
    closing('tracing', await startTracing(config, logOf(logger, 'tracing')));
    const { glance, images, neutron, placement, keyManager } = createClients(
      config,
      logOf(logger, 'openstack'),
    );
    const squirrel = closing(
      'squirrel',
      await Squirrel.open(squirrelOptions(config, logOf(logger, 'squirrel'))),
    );
    // The memory of a clone is its µVM's, mapped privately, which is no memory of the files that the operator wants.
    // Its disk is its µVM's, whose guest has it mounted.
    const { fileBackedMemory, injectPartition } = config.libvirt;
    const obstacle =
      fileBackedMemory > 0
        ? 'memory is in files ([libvirt] file_backed_memory)'
        : injectPartition > -2 && !config.default.forceConfigDrive
          ? 'files are written onto disks ([libvirt] inject_partition)'
          : undefined;
    const { maxVcpus, maxMemoryMb, gateTimeoutS } = config.prebake;
    const uvmSettings = { maxVcpus, maxMemoryMb, gateTimeoutMs: gateTimeoutS * 1000 };
    const driver = closing(
      'driver',
      LibvirtDriver.create({
        config,
        glance: images,
        logger: logOf(logger, 'libvirt'),
        uvm: (parts) => new LibvirtUvmEngine(parts, uvmSettings),
      }),
    );
    const connect = async (transportUrl: string): Promise<Messaging> =>
      await Messaging.connect({
        transportUrl,
        connectionName: `nova-compute:${process.pid}:${randomUUID()}`,
        ...brokerOptions(config),
        logger: logOf(logger, 'messaging'),
        signal,
      });
    const messaging = closing('messaging', await connect(config.default.transportUrl));
    const { transportUrl: otherBroker } = config.osloMessagingNotifications;
    const notifications =
      otherBroker === null ? messaging : closing('notifications', await connect(otherBroker));
    const metrics = new Metrics();
    watchEventLoop((durationMs) => metrics.eventLoopBlocked(durationMs));
    const boots = new BootRecorder(metrics);
    const bakes = new BakeRecorder();
    const baker = closing(
      'baker',
      Baker.create({
        squirrel,
        driver,
        config,
        logger: logOf(logger, 'bake'),
        onProgress: (progress) => bakes.progress(progress),
        onEnded: (end) => {
          metrics.bakeEnded(end.outcome, end.durationMs);
          bakes.ended(end);
        },
      }),
    );
    const hoarder = closing(
      'hoarder',
      new Hoarder({
        host: config.default.host,
        policy: () => (obstacle === undefined ? config.prebake.bake : 'never'),
        sweepIntervalMs: config.prebake.sweepIntervalS * 1000,
        squirrel,
        baker,
        glance,
        shared: openStore(config, logOf(logger, 'hoard')),
        messaging,
        notifications: {
          transportUrl: config.prebake.notificationsTransportUrl ?? config.default.transportUrl,
          connectionName: `nova-compute:${process.pid}:notifications`,
          ...brokerOptions(config),
          logger: logOf(logger, 'messaging'),
        },
        meter: metrics,
        logger: logOf(logger, 'hoard'),
      }),
    );
    const templates = Templates.create({
      squirrel,
      baker: hoarder.supply,
      driver,
      config,
      logger: logOf(logger, 'bake'),
      obstacle,
    });
    const conductor = new Conductor(messaging, { timeoutMs: 5_000 });
    let phase: 'still starting' | 'up' | 'stopping' = 'still starting';
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
            hoarder.supply
              .bake(image, { signal })
              .catch((error: unknown) => logger.warn(`asked for by the page: ${describeError(error)}`));
          },
          evict: (key) => squirrel.remove(key),
        },
        checks: new Map([
          ['service', () => holds(phase === 'up', phase)],
          ['amqp', () => holds(messaging.state === 'connected', messaging.state)],
          ['conductor', () => conductor.ping(RequestContext.admin())],
          ['libvirt', () => driver.ping()],
          ['placement', () => placement.ping()],
        ]),
        boots,
        metrics,
        logger: logOf(logger, 'sidecar'),
      }),
    );

    const service = createComputeService({
      config,
      messaging,
      notifications,
      driver,
      glance,
      neutron,
      placement,
      keyManager,
      templates,
      squirrel,
      boots,
      logger: logOf(logger, 'compute'),
    });
    started.push({ name: COMPUTE_SERVICE, close: () => service.stop() });
    await service.start(signal);
    phase = 'up';
    await notifySystemd(logger, 'READY=1', `STATUS=serving host ${config.default.host}`);
    await hoarder.start();
    if (!signal.aborted) await once(signal, 'abort');
    phase = 'stopping';
    await notifySystemd(logger, 'STOPPING=1', 'STATUS=letting running operations end');
  } finally {
    for (const { name, close } of started.reverse()) {
      try {
        await (name === COMPUTE_SERVICE ? close() : inTime(close()));
      } catch (error) {
        // What is left of its operations is interrupted at once, as by a crash: nothing is closed under them first.
        if (error instanceof StillBusy) throw error;
        logger.warn(`${name} did not close cleanly: ${describeError(error)}`);
      }
    }
  }
}

async function inTime(closing: Promise<void>): Promise<void> {
  const late = new AbortController();
  await Promise.race([
    closing.finally(() => late.abort()),
    delay(CLOSE_TIMEOUT_MS, undefined, { signal: late.signal }).then(
      () => Promise.reject(new Error(`still not closed after ${CLOSE_TIMEOUT_MS / 1000} s`)),
      () => undefined,
    ),
  ]);
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

function logLevel(config: Config): LogLevel {
  return config.default.debug ? 'debug' : 'info';
}

/** Reads the configuration again (SIGHUP), as oslo.service has services do: what can be changed now is, the rest is named. */
async function reload(
  config: Config,
  paths: readonly string[],
  { logger, setLevel, look }: Log,
): Promise<void> {
  await look();
  try {
    const { taken, needRestart } = takeMutable(config, await loadConfig(paths));
    setLevel(logLevel(config));
    logger.info(`configuration read again; changed: ${taken.join(', ') || 'nothing'}`);
    if (needRestart.length > 0) logger.warn(`changed, but needs a restart: ${needRestart.join(', ')}`);
  } catch (error) {
    logger.error(`the configuration stays as it was: ${describeError(error)}`);
  }
}

async function main(): Promise<void> {
  const configPaths = new ConfigPathOptions();
  new Command('prebake-compute')
    .description('Nova compute service that starts servers from prebaked µVMs')
    .version(readVersion())
    .addOption(configPaths.file)
    .addOption(configPaths.directory)
    .parse();
  const paths = configPaths.given.length > 0 ? configPaths.given : await defaultConfigPaths();
  const config = await loadConfig(paths);
  const log = openLog({
    level: logLevel(config),
    json: config.default.useJson,
    stderr: config.default.useStderr,
    ...logFile(config),
  });
  const logger = logOf(log.logger, 'service');
  const stop = new AbortController();
  handleSignals({
    stop: (signal) => {
      logger.info(`${signal}: stopping; another one ends the service at once`);
      stop.abort(new Error(signal));
    },
    endNow: (signal) => {
      logger.warn(`${signal} again: ending at once; the next start puts in order what was running`);
      log.flush();
      process.exit(1);
    },
    reload: () => reload(config, paths, { ...log, logger }),
  });
  try {
    await serve(config, { ...log, logger }, stop.signal);
    logger.info('stopped');
  } catch (error) {
    if (!stop.signal.aborted) logger.fatal(describeError(error));
    else if (error instanceof StillBusy) logger.error(error.message);
    if (!stop.signal.aborted || error instanceof StillBusy) process.exitCode = 1;
  }
  // Whatever did not close has had its time.
  log.flush();
  process.exit();
}

main().catch((error: unknown) => {
  process.stderr.write(`prebake-compute: ${describeError(error)}\n`);
  process.exitCode = 1;
});
