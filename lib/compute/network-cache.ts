/**
 * Nova's cached picture of a server's network, brought up to date from Neutron
 * (nova/network/neutron.py, get_instance_nw_info).
 */
import { isDeepStrictEqual } from 'node:util';
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import type { Instance, NetworkInfo } from '../objects';
import { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import type { ServerNetworks } from './network';

/** Refreshes cached networks. */
export class NetworkCache {
  private readonly locks = new InstanceLocks();

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
    return this.change(context, instance, (cached) => this.current(instance, cached));
  }

  /**
   * Changes the cached picture, one change of a server's at a time: Neutron reports a port while it is being attached,
   * and a refresh that did not know of it yet would forget whose it is.
   *
   * @param work gets the picture as it is in the database now; what it returns is stored
   */
  async change(
    context: RequestContext,
    instance: Instance,
    work: (cached: NetworkInfo) => Promise<NetworkInfo>,
  ): Promise<NetworkInfo> {
    return this.locks.run(instance.uuid, async () => {
      const cached = (await this.records.get(context, instance.uuid)).networkInfo;
      const changed = await work(cached);
      const known = isDeepStrictEqual(changed, cached) && isDeepStrictEqual(changed, instance.networkInfo);
      if (!known) await this.records.saveNetworkInfo(context, instance, changed);
      return changed;
    });
  }

  private async current(instance: Instance, cached: NetworkInfo): Promise<NetworkInfo> {
    try {
      return await this.networks.refresh(instance, cached);
    } catch (error) {
      this.logger.warn(
        { instance_uuid: instance.uuid },
        `using the cached network, Neutron could not be asked: ${describeError(error)}`,
      );
      return cached;
    }
  }
}
