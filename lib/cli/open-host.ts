/** Makes what the commands work with from this host's nova.conf. Nothing is connected before a command needs it. */
import { LibvirtDriver } from '../../drivers/libvirt';
import { LibvirtUvmEngine, type UvmSettings } from '../../drivers/libvirt/uvm';
import { BakeFailures, Baker } from '../bake';
import { createClients } from '../clients';
import { type Config, ConfigError, loadConfig } from '../config';
import type { Logger } from '../log';
import { type Glance, type GlanceImage } from '../openstack';
import { sidecarUrl } from '../sidecar';
import { Squirrel, squirrelOptions } from '../squirrel';
import type { Bakery, Cache, Host } from './host';
import { CommandError, EXIT } from './output';

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
  const { glance } = createClients(config, logger);
  const driver = LibvirtDriver.create({
    config,
    glance,
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
  const baker = Baker.create({ squirrel: cache, driver, config, logger });
  return {
    cache,
    baker,
    findImage: (nameOrId, signal) => findImage(glance, nameOrId, signal),
    close: async () => {
      await baker.close();
      await driver.close();
      await cache.close();
    },
  };
}

function uvmSettings({ prebake }: Config): UvmSettings {
  const { maxVcpus, maxMemoryMb, gateTimeoutS } = prebake;
  return { maxVcpus, maxMemoryMb, gateTimeoutMs: gateTimeoutS * 1000 };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

async function findImage(glance: Glance, nameOrId: string, signal: AbortSignal): Promise<GlanceImage> {
  if (UUID.test(nameOrId)) return glance.show(nameOrId, signal);
  const images = await glance.findByName(nameOrId, signal);
  const [first] = images;
  if (first === undefined) throw new CommandError(`Glance has no image named '${nameOrId}'`);
  if (images.length > 1) {
    const ids = images.map((image) => image.id).join(', ');
    throw new CommandError(`several images are named '${nameOrId}', use an id: ${ids}`, EXIT.usage);
  }
  return first;
}
