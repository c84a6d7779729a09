/**
 * Nova's cached picture of a server's network, brought up to date from Neutron
 * (nova/network/neutron.py, get_instance_nw_info).
 */
import { isDeepStrictEqual } from 'node:util';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import type { Instance, NetworkInfo } from '../objects';
import type { InstanceRecords } from './instance-records';
import type { ServerNetworks } from './network';

/** Refreshes cached networks. */
export class NetworkCache {
  constructor(
    private readonly networks: ServerNetworks,
    private readonly records: InstanceRecords,
    private readonly logger: Logger,
  ) {}

  /**
   * Asks Neutron and stores what changed.
   *
   * @returns the network as Neutron has it, or the cached one when Neutron cannot be asked
   */
  async refresh(context: RequestContext, instance: Instance): Promise<NetworkInfo> {
    const cached = instance.networkInfo;
    let current: NetworkInfo;
    try {
      current = await this.networks.refresh(instance, cached);
    } catch (error) {
      this.logger.warn(
        { instance_uuid: instance.uuid },
        `using the cached network, Neutron could not be asked: ${describeError(error)}`,
      );
      return cached;
    }
    if (!isDeepStrictEqual(current, cached)) {
      await this.records.saveNetworkInfo(context, instance, current);
    }
    return current;
  }
}
