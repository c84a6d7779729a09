/**
 * NICs of a server that comes and goes: plugged into and out of a running guest and its lasting definition
 * (nova/virt/libvirt/driver.py: attach_interface, detach_interface).
 */
import { z } from 'zod';
import { InstanceNotFound } from '../../lib/exceptions';
import type { Vif } from '../../lib/objects';
import { deleteTap, ensureBridges } from './bridge';
import type { LibvirtConnection } from './connection';
import type { Domain } from './domain';
import { ErrorCode, isLibvirtError } from './libvirt-error';
import { isOff } from './power';
import { type InterfaceOptions, portInterface, toXml } from './xml';
import { readXml } from './xml-reader';

/** A guest that does not let go is asked again, as often and as long as Nova does by default. */
const DETACH_ATTEMPTS = 8;
const DETACH_TIMEOUT_MS = 20_000;

const interfacesSchema = z.object({
  domain: z.object({
    devices: z.object({
      interface: z
        .array(
          z.object({
            mac: z.object({ '@address': z.string() }),
            alias: z.object({ '@name': z.string() }).optional(),
          }),
        )
        .default([]),
    }),
  }),
});

/** Plugs a port in; without a tap when it fails. @param nic what kind of NIC the guest gets, and its limits */
export async function attachInterface(
  domain: Domain,
  vif: Vif,
  nic: Pick<InterfaceOptions, 'model' | 'bandwidth' | 'queues'>,
): Promise<void> {
  await ensureBridges([vif]);
  const live = !(await isOff(domain));
  try {
    await domain.attachDevice(toXml('interface', portInterface(vif, nic)), {
      live,
      config: await domain.isPersistent(),
    });
  } catch (error) {
    if (vif.devname !== null) await deleteTap(vif.devname);
    throw error;
  }
}

/** Takes a port's NIC away and waits until the guest let go of it. Nothing when it has none. */
export async function detachInterface(
  connection: LibvirtConnection,
  domain: Domain,
  vif: Vif,
): Promise<void> {
  const xml = toXml('interface', portInterface(vif));
  try {
    if ((await domain.isPersistent()) && (await aliasOf(domain, vif, { inactive: true })) !== null) {
      await domain.detachDevice(xml, { live: false, config: true });
    }
    if (!(await isOff(domain))) await detachLive(connection, domain, vif, xml);
  } finally {
    if (vif.devname !== null) await deleteTap(vif.devname);
  }
}

async function detachLive(
  connection: LibvirtConnection,
  domain: Domain,
  vif: Vif,
  xml: string,
): Promise<void> {
  for (let attempt = 0; attempt < DETACH_ATTEMPTS; attempt += 1) {
    const alias = await aliasOf(domain, vif);
    if (alias === null) return;
    const removed = deviceRemoved(connection, domain.uuid, alias);
    try {
      await domain.detachDevice(xml);
      await removed.within(DETACH_TIMEOUT_MS);
    } catch (error) {
      // It went while we asked, or it is still on its way out after the last time.
      if (isLibvirtError(error, ErrorCode.DEVICE_MISSING)) return;
      if (!isLibvirtError(error) || !/in the process of unplug/.test(error.message)) throw error;
      await removed.within(DETACH_TIMEOUT_MS);
    } finally {
      removed.cancel();
    }
  }
  if ((await aliasOf(domain, vif)) !== null) {
    throw new Error(`the guest does not let go of ${vif.address}`);
  }
}

/** libvirt's name of the NIC, empty for one of a definition; null without one. */
async function aliasOf(domain: Domain, vif: Vif, options = { inactive: false }): Promise<string | null> {
  let xml: string;
  try {
    xml = await domain.xmlDesc(options);
  } catch (error) {
    if (error instanceof InstanceNotFound) return null;
    throw error;
  }
  const { devices } = readXml(xml, interfacesSchema).domain;
  const found = devices.interface.find(({ mac }) => mac['@address'].toLowerCase() === vif.address);
  return found === undefined ? null : (found.alias?.['@name'] ?? '');
}

/** Watches for the removal from now on; a guest that ends has no devices any more either. */
function deviceRemoved(
  connection: LibvirtConnection,
  uuid: string,
  alias: string,
): { readonly within: (timeoutMs: number) => Promise<void>; readonly cancel: () => void } {
  let resolve: () => void = () => undefined;
  const removed = new Promise<void>((done) => {
    resolve = done;
  });
  const cancel = connection.onDomainEvent((event) => {
    if (event.uuid !== uuid) return;
    if (event.kind === 'stopped' || (event.kind === 'device-removed' && event.alias === alias)) resolve();
  });
  return {
    cancel,
    async within(timeoutMs) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((done) => {
        timer = setTimeout(done, timeoutMs);
      });
      await Promise.race([removed, late]);
      clearTimeout(timer);
    },
  };
}
