/**
 * The file systems of a running guest brought to rest, and let go on, around snapshots that others take of its disks
 * (nova/compute/manager.py: quiesce_instance, unquiesce_instance).
 */
import type { ComputeDriver } from '../../drivers/driver';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';

/** Both calls are answered with what the driver throws; nothing is recorded with the server, as in Nova. */
export class Quiesce {
  constructor(
    private readonly driver: Pick<ComputeDriver, 'quiesce' | 'unquiesce'>,
    private readonly records: Pick<InstanceRecords, 'complete'>,
    private readonly instanceNameTemplate: string,
  ) {}

  async quiesce(context: RequestContext, instance: Instance): Promise<void> {
    await this.records.complete(context, instance);
    await this.driver.quiesce(instanceSpec(instance, this.instanceNameTemplate));
  }

  async unquiesce(context: RequestContext, instance: Instance): Promise<void> {
    await this.records.complete(context, instance);
    await this.driver.unquiesce(instanceSpec(instance, this.instanceNameTemplate));
  }
}
