/**
 * Servers that get another flavor: prepared, moved aside, started with the new sizes, to wait for a confirmation
 * (nova/compute/manager.py: prep_resize, resize_instance, finish_resize). How that ends is in `resize-end.ts`.
 *
 * The scheduler's allocation for the new flavor is the server's; what it had before is held by the migration until the end.
 * Source and destination are this host, so that the steps follow each other here instead of going over the bus.
 */
import { z } from 'zod';
import type { ComputeDriver } from '../../drivers/driver';
import { NotImplementedError, ResizeError, UnableToMigrateToSelf, describeError } from '../exceptions';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import { Flavor, type Instance, Migration, expectObject, novaTime } from '../objects';
import type { Placement } from '../openstack';
import type { ConductorTasks, ResizeElsewhere } from './conductor-tasks';
import { migrationContext, noteChange, ranBefore, takeFlavor } from './flavor-change';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import type { NetworkCache } from './network-cache';
import type { Power } from './power';
import type { ResizeEnd } from './resize-end';
import type { ResourceTracker } from './resource-tracker';
import type { SchedulerNews } from './scheduler-news';
import { TaskState, VmState } from './states';
import type { Vtpm } from './vtpm';

/** What resizes work with. */
export interface ResizeParts {
  readonly driver: Pick<ComputeDriver, 'migrateDisk' | 'finishMigration'>;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly networkCache: Pick<NetworkCache, 'refresh'>;
  readonly power: Pick<Power, 'powerOff' | 'powerState'>;
  readonly tracker: Pick<ResourceTracker, 'nodeName' | 'track' | 'publish'>;
  readonly placement: Pick<Placement, 'moveAllocations'>;
  readonly end: Pick<ResizeEnd, 'rollBack'>;
  readonly conductor: Pick<ConductorTasks, 'resizeInstance'>;
  readonly scheduler: Pick<SchedulerNews, 'instanceUpdated'>;
  readonly vtpm: Pick<Vtpm, 'withSecret'>;
  readonly logger: Logger;
  readonly options: {
    readonly host: string;
    readonly hostAddress: string;
    readonly instanceNameTemplate: string;
  };
}

const prepareSchema = z.looseObject({
  filter_properties: z.looseObject({ retry: z.record(z.string(), z.unknown()).nullish() }).nullish(),
  clean_shutdown: z.boolean().default(true),
});

/** Resizes servers. */
export class Resize {
  constructor(private readonly parts: ResizeParts) {}

  /** Handles prep_resize, and with it the whole way to a server that waits for its confirmation. */
  async resize(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { actions } = this.parts;
    const migration = expectObject(args.migration, Migration);
    const flavor = expectObject(args.flavor, Flavor);
    const request = prepareSchema.parse(args);
    const prepared = await actions.run(context, instance, 'prep_resize', async (log) => {
      try {
        await this.prepare(context, instance, migration, flavor);
        return true;
      } catch (error) {
        await this.giveUp(context, instance, migration);
        const { retry, ...filterProperties } = request.filter_properties ?? {};
        if (retry === null || retry === undefined) throw error;
        log.warn(`not resized here, trying elsewhere: ${describeError(error)}`);
        await this.tryElsewhere(context, { instance, flavor, filterProperties, retry }, args, error);
        return false;
      }
    });
    if (!prepared) return;
    await actions.run(context, instance, 'resize_instance', async (_log, signal) => {
      try {
        await this.migrate(context, instance, migration, flavor, request.clean_shutdown, signal);
      } catch (error) {
        await this.giveUp(context, instance, migration);
        // Nova: InstanceFaultRollback. Nothing was touched yet.
        if (!(error instanceof ResizeError)) instance.set('vm_state', VmState.ERROR);
        throw error;
      }
    });
    await actions.run(context, instance, 'finish_resize', async () => {
      try {
        await this.finish(context, instance, migration, flavor);
      } catch (error) {
        await this.parts.end.rollBack(context, instance, migration);
        instance.set('vm_state', VmState.ERROR);
        throw error;
      }
    });
  }

  private async prepare(
    context: RequestContext,
    instance: Instance,
    migration: Migration,
    flavor: Flavor,
  ): Promise<void> {
    const { records, tracker, options } = this.parts;
    if (instance.host !== options.host) {
      throw new NotImplementedError('prebake-compute does not take over servers of other hosts yet');
    }
    if (flavor.id === instance.flavor.id) {
      throw new UnableToMigrateToSelf(
        `Unable to migrate instance (${instance.uuid}) to current host (${options.host}).`,
      );
    }
    noteChange(instance, flavor);
    await records.save(context, instance, [TaskState.RESIZE_PREP]);
    migration.update({
      dest_compute: options.host,
      dest_node: tracker.nodeName,
      dest_host: options.hostAddress,
      status: 'pre-migrating',
    });
    await records.saveMigration(context, migration);
    instance.set('migration_context', migrationContext(instance, migration));
    await records.save(context, instance);
    tracker.track(instance);
    await tracker.publish(context);
  }

  private async migrate(
    context: RequestContext,
    instance: Instance,
    migration: Migration,
    flavor: Flavor,
    cleanShutdown: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const { driver, records, power } = this.parts;
    migration.set('status', 'migrating');
    await records.saveMigration(context, migration);
    instance.set('task_state', TaskState.RESIZE_MIGRATING);
    await records.save(context, instance, [TaskState.RESIZE_PREP]);
    if (flavor.rootGb < instance.flavor.rootGb || flavor.ephemeralGb < instance.flavor.ephemeralGb) {
      throw new ResizeError('Resize error: Unable to resize disk down.');
    }
    await power.powerOff(instance, cleanShutdown);
    await driver.migrateDisk(instance.uuid, signal);
    migration.set('status', 'post-migrating');
    await records.saveMigration(context, migration);
    instance.update({ old_flavor: instance.flavor, task_state: TaskState.RESIZE_MIGRATED });
    await records.save(context, instance, [TaskState.RESIZE_MIGRATING]);
  }

  private async finish(
    context: RequestContext,
    instance: Instance,
    migration: Migration,
    flavor: Flavor,
  ): Promise<void> {
    const { driver, records, networkCache, power, tracker, scheduler, vtpm, options } = this.parts;
    takeFlavor(instance, flavor);
    const network = await networkCache.refresh(context, instance);
    instance.set('task_state', TaskState.RESIZE_FINISH);
    await records.save(context, instance, [TaskState.RESIZE_MIGRATED]);
    const spec = instanceSpec(instance, options.instanceNameTemplate);
    const withSecret = await vtpm.withSecret(context, instance, spec);
    await driver.finishMigration(withSecret, network, ranBefore(instance));
    migration.set('status', 'finished');
    await records.saveMigration(context, migration);
    instance.update({
      vm_state: VmState.RESIZED,
      task_state: null,
      power_state: await power.powerState(instance),
      launched_at: novaTime(new Date()),
    });
    await records.save(context, instance, [TaskState.RESIZE_FINISH]);
    tracker.track(instance);
    void scheduler.instanceUpdated(context, instance);
  }

  /** Takes back what the scheduler and `prepare` made; nothing happened to the server yet. */
  private async giveUp(context: RequestContext, instance: Instance, migration: Migration): Promise<void> {
    const { records, placement, logger } = this.parts;
    try {
      await placement.moveAllocations(migration.uuid, instance.uuid);
      migration.set('status', 'error');
      await records.saveMigration(context, migration);
      await records.dropMigrationContext(context, instance);
      instance.update({ new_flavor: null, old_flavor: null });
    } catch (error) {
      const log = logger.child({ instance_uuid: instance.uuid });
      log.error(`the resize could not be taken back: ${describeError(error)}`);
    }
  }

  private async tryElsewhere(
    context: RequestContext,
    resize: Pick<ResizeElsewhere, 'instance' | 'flavor' | 'filterProperties' | 'retry'>,
    args: Readonly<Record<string, unknown>>,
    error: unknown,
  ): Promise<void> {
    const { records, conductor } = this.parts;
    const { instance } = resize;
    await records.createFault(context, instance.uuid, error);
    instance.set('task_state', TaskState.RESIZE_PREP);
    await records.save(context, instance);
    await conductor.resizeInstance(
      context,
      {
        ...resize,
        requestSpec: args.request_spec,
        hostList: args.host_list,
        cleanShutdown: args.clean_shutdown !== false,
      },
      describeError(error),
    );
  }
}
