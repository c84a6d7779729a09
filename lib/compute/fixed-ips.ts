/**
 * More and fewer addresses for a server's NICs (nova/network/neutron.py: add_fixed_ip_to_instance,
 * remove_fixed_ip_from_instance). The guest learns of them by DHCP.
 */
import { z } from 'zod';
import { FixedIpNotFoundForInstance, NetworkNotFoundForInstance, describeError } from '../exceptions';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import { type Instance, novaTime } from '../objects';
import type { Neutron, NeutronPort } from '../openstack';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import type { NetworkCache } from './network-cache';

/** What is worked with. */
export interface FixedIpsParts {
  readonly neutron: Pick<Neutron, 'listPorts' | 'listSubnets' | 'updatePort'>;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly networkCache: Pick<NetworkCache, 'refresh'>;
}

const idSchema = z.string();

/** Adds and removes addresses. */
export class FixedIps {
  constructor(private readonly parts: FixedIpsParts) {}

  /** Gives the first NIC on the network that can have one an address of its subnets. */
  async add(context: RequestContext, instance: Instance, networkId: unknown): Promise<void> {
    const { actions, neutron } = this.parts;
    const id = idSchema.parse(networkId);
    await actions.run(context, instance, 'add_fixed_ip_to_instance', async (log) => {
      const subnets = await neutron.listSubnets({ network_id: id });
      for (const port of await this.ports(instance, { network_id: id })) {
        for (const subnet of subnets) {
          if (await this.change(port, [...port.fixed_ips, { subnet_id: subnet.id }], log)) {
            return this.show(context, instance);
          }
        }
      }
      throw new NetworkNotFoundForInstance(`Network could not be found for instance ${instance.uuid}.`);
    });
  }

  async remove(context: RequestContext, instance: Instance, address: unknown): Promise<void> {
    const wanted = idSchema.parse(address);
    await this.parts.actions.run(context, instance, 'remove_fixed_ip_from_instance', async (log) => {
      const ports = await this.ports(instance);
      const port = ports.find((found) => found.fixed_ips.some((ip) => ip.ip_address === wanted));
      if (port === undefined) {
        throw new FixedIpNotFoundForInstance(`Instance ${instance.uuid} does not have fixed IP '${wanted}'.`);
      }
      const kept = port.fixed_ips.filter((ip) => ip.ip_address !== wanted);
      await this.change(port, kept, log);
      await this.show(context, instance);
    });
  }

  /** Only the project's own: any tenant may write any server's id into a port. */
  private async ports(
    instance: Instance,
    filter: { network_id?: string } = {},
  ): Promise<readonly NeutronPort[]> {
    const { neutron } = this.parts;
    return neutron.listPorts({ tenant_id: instance.projectId, device_id: instance.uuid, ...filter });
  }

  /** @returns false when Neutron does not want it: Nova goes on to the next subnet */
  private async change(
    port: NeutronPort,
    fixedIps: readonly { readonly subnet_id: string; readonly ip_address?: string }[],
    log: Logger,
  ): Promise<boolean> {
    try {
      await this.parts.neutron.updatePort(port.id, { fixed_ips: fixedIps });
      return true;
    } catch (error) {
      log.warn(`the addresses of port ${port.id} stay as they are: ${describeError(error)}`);
      return false;
    }
  }

  /** nova-api waits for `updated_at` to change. */
  private async show(context: RequestContext, instance: Instance): Promise<void> {
    const { records, networkCache } = this.parts;
    await networkCache.refresh(context, instance);
    instance.set('updated_at', novaTime(new Date()));
    await records.save(context, instance);
  }
}
