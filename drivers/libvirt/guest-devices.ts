/** Where the NICs and disks of a guest sit on its buses: what a user's tags of devices are told by. */
import { z } from 'zod';
import type { GuestDevice } from '../driver';
import type { Domain } from './domain';
import { readXml } from './xml-reader';

const addressSchema = z.object({ '@type': z.string() }).catchall(z.string());
type Address = z.infer<typeof addressSchema>;

const devicesSchema = z.object({
  domain: z.object({
    devices: z.object({
      interface: z
        .array(z.object({ mac: z.object({ '@address': z.string() }), address: addressSchema.optional() }))
        .default([]),
      disk: z
        .array(
          z.object({
            target: z.object({ '@dev': z.string(), '@bus': z.string() }),
            address: addressSchema.optional(),
          }),
        )
        .default([]),
    }),
  }),
});

/** All NICs and disks of a domain, running or only defined. */
export async function listDevices(domain: Domain): Promise<GuestDevice[]> {
  const { devices } = readXml(await domain.xmlDesc(), devicesSchema).domain;
  return [
    ...devices.interface.map(({ mac, address }) => ({
      kind: 'nic' as const,
      name: mac['@address'].toLowerCase(),
      bus: address?.['@type'] === 'pci' ? pciBus(address) : null,
    })),
    ...devices.disk.map(({ target, address }) => ({
      kind: 'disk' as const,
      name: target['@dev'],
      bus: diskBus(target['@bus'], address),
    })),
  ];
}

function diskBus(bus: string, address: Address | undefined): GuestDevice['bus'] {
  if (bus === 'usb') return { type: 'usb', address: null };
  if (address?.['@type'] === 'pci') return pciBus(address);
  if (address?.['@type'] === 'drive' && (bus === 'scsi' || bus === 'ide')) {
    const parts = ['@controller', '@bus', '@target', '@unit'].map((name) => address[name] ?? '0');
    return { type: bus, address: parts.join(':') };
  }
  return null;
}

/** As lspci writes it: libvirt's `domain='0x0000' bus='0x00' slot='0x03' function='0x0'` -> `0000:00:03.0`. */
function pciBus(address: Address): GuestDevice['bus'] {
  const digits = (name: string): string => (address[`@${name}`] ?? '0x0').replace(/^0x/, '');
  return {
    type: 'pci',
    address: `${digits('domain')}:${digits('bus')}:${digits('slot')}.${digits('function')}`,
  };
}
