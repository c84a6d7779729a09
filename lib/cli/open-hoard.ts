/** This host's cache and the object store beside it, for the commands; libvirt is asked only for what an image's key needs. */
import { LibvirtDriver } from '../../drivers/libvirt';
import { LibvirtUvmEngine } from '../../drivers/libvirt/uvm';
import { Baker, keyOfManifest } from '../bake';
import { createClients } from '../clients';
import type { Config } from '../config';
import { openStore, pull, push } from '../hoard';
import type { Logger } from '../log';
import type { Squirrel } from '../squirrel';
import { findImage } from './find-image';
import type { HoardAccess } from './host';
import { CommandError, EXIT } from './output';
import { uvmSettings } from './uvm-settings';

/** @throws CommandError when µVMs are not shared on this host */
export async function openHoard(
  config: Config,
  openCache: () => Promise<Squirrel>,
  logger: Logger,
): Promise<HoardAccess> {
  const shared = openStore(config, logger);
  if (shared === undefined) {
    throw new CommandError(
      'µVMs are not shared on this host: set object_store in section [prebake]',
      EXIT.usage,
    );
  }
  const { store, fetchPace, uploadPace } = shared;
  const { glance, images } = createClients(config, logger);
  const cache = await openCache();
  const driver = LibvirtDriver.create({
    config,
    glance: images,
    logger,
    uvm: (parts) => new LibvirtUvmEngine(parts, uvmSettings(config)),
  });
  const baker = Baker.create({ squirrel: cache, driver, config, logger });
  let connecting: Promise<void> | undefined;
  const connected = async (): Promise<void> => await (connecting ??= driver.connect());
  return {
    cache,
    stored: (signal) => store.keys(undefined, signal),
    fetch: async (uvm, options) => {
      if ((await cache.find(uvm.key).catch(() => undefined)) !== undefined) return 'there';
      return (await pull(cache, store, uvm, keyOfManifest, { pace: fetchPace, ...options })) ?? 'absent';
    },
    send: async (key, options) => {
      await store.objects.prepare(options.signal);
      return (await push(cache, store, key, { pace: uploadPace, ...options })) ?? 'there';
    },
    keysOfImages: async (signal) => {
      const images = await glance.list(signal);
      await connected();
      return await Promise.all(images.map((image) => baker.keyOf(image)));
    },
    keyOfImage: async (nameOrId, signal) => {
      const image = await findImage(glance, nameOrId, signal);
      await connected();
      return { imageId: image.id, key: await baker.keyOf(image) };
    },
    close: async () => {
      await baker.close();
      await driver.close();
      await cache.close();
    },
  };
}
