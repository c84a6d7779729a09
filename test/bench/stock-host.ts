/** The stock compute host of the all-in-one: there for a bench, and out of the scheduler's sight otherwise. */
import { z } from 'zod';
import { type NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run } from '../support/servers';

export const STOCK_HOST = 'stock-compute';
const SERVICES = ['nova-compute', 'neutron-linuxbridge-stock', 'libvirtd-stock', 'virtlogd-stock'];

const servicesSchema = z.object({ services: z.array(z.looseObject({ id: z.string(), state: z.string() })) });

/** Brings it up if need be, and lets the scheduler use it. */
export async function startStockHost(nova: NovaApi): Promise<void> {
  await run(ALL_IN_ONE, ['up', '--with', 'nova-compute'], { timeout: 600_000 });
  const service = await waitFor(
    async () => (await services(nova)).find(({ state }) => state === 'up') ?? null,
    60_000,
    () => `Nova does not call ${STOCK_HOST} up`,
  );
  await setStatus(nova, service.id, 'enabled');
  await run(ALL_IN_ONE, ['discover-hosts'], { timeout: 60_000 });
}

/** No server is scheduled to it any more, and it stops. */
export async function stopStockHost(nova: NovaApi): Promise<void> {
  for (const { id } of await services(nova)) await setStatus(nova, id, 'disabled');
  for (const name of SERVICES) await run(ALL_IN_ONE, ['stop', name], { timeout: 60_000 });
}

async function services(nova: NovaApi): Promise<z.infer<typeof servicesSchema>['services']> {
  const answer = await nova.get('compute', `/os-services?host=${STOCK_HOST}&binary=nova-compute`);
  return servicesSchema.parse(answer).services;
}

async function setStatus(nova: NovaApi, id: string, status: 'enabled' | 'disabled'): Promise<void> {
  await nova.http.put(`${nova.url('compute')}/os-services/${id}`, { status });
}
