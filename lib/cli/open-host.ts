/** Makes what the commands work with from this host's nova.conf. Nothing is connected before a command needs it. */
import { LibvirtDriver } from '../../drivers/libvirt';
import { LibvirtUvmEngine } from '../../drivers/libvirt/uvm';
import { BakeFailures, Baker } from '../bake';
import { createClients } from '../clients';
import { type Config, ConfigError, loadConfig } from '../config';
import type { Logger } from '../log';
import { sidecarUrl } from '../sidecar';
import { openStore } from '../hoard';
import { Squirrel, squirrelOptions } from '../squirrel';
import { startTracing } from '../tracing';
import { findImage } from './find-image';
import type { Bakery, Cache, Host } from './host';
import { openHoard } from './open-hoard';
import { CommandError, EXIT } from './output';
import { uvmSettings } from './uvm-settings';

/** @throws CommandError that names every wrong option */
export async function openHost(configFiles: readonly string[], logger: Logger): Promise<Host> {
  const config = await readConfig(configFiles);
  const openCache = (): Promise<Squirrel> => Squirrel.open(squirrelOptions(config, logger));
  return {
    name: config.default.host,
    configFiles,
    sidecarUrl: sidecarUrl(config.prebake.sidecarListen),
    sidecarToken: config.prebake.sidecarToken,
    openCache,
    bakeFailures: () => new BakeFailures(config.prebake.cacheDirectory).list(),
    openHoard: () => openHoard(config, openCache, logger),
    storedKeys: (signal) =>
      openStore(config, logger)?.store.keys(undefined, signal) ?? Promise.resolve(undefined),
    openBakery: async () => openBakery(config, await openCache(), logger),
  };
}

async function readConfig(configFiles: readonly string[]): Promise<Config> {
  if (configFiles.length === 0) {
    throw new CommandError('there is no /etc/nova/nova.conf; name one with --config-file', EXIT.usage);
  }
  try {
    return await loadConfig(configFiles);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new CommandError(`the configuration is wrong:\n${error.message}`, EXIT.usage, { cause: error });
  }
}

async function openBakery(
  config: Config,
  cache: Squirrel,
  logger: Logger,
): Promise<Bakery & { readonly cache: Cache }> {
  const { glance, images } = createClients(config, logger);
  const driver = LibvirtDriver.create({
    config,
    glance: images,
    logger,
    uvm: (parts) => new LibvirtUvmEngine(parts, uvmSettings(config)),
  });
  try {
    // Servers, and what a crash left of them, are the business of the service, which may be running right now.
    await driver.connect();
  } catch (error) {
    await cache.close();
    throw error;
  }
  const tracing = await startTracing(config, logger);
  const baker = Baker.create({ squirrel: cache, driver, config, logger });
  return {
    cache,
    baker,
    findImage: (nameOrId, signal) => findImage(glance, nameOrId, signal),
    close: async () => {
      await baker.close();
      await driver.close();
      await cache.close();
      await tracing.close();
    },
  };
}
