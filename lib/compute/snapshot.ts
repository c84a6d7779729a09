/**
 * Images made of servers (nova/compute/manager.py: snapshot_instance, backup_instance). nova-api has made the image's
 * record; it gets its data here, or is deleted when there is none to get.
 */
import { z } from 'zod';
import type { ComputeDriver } from '../../drivers/driver';
import { PowerState } from '../../drivers/driver';
import { InstanceNotFound, describeError } from '../exceptions';
import { type Logger } from '../log';
import { type RequestContext, isRemoteError } from '../messaging';
import type { Instance } from '../objects';
import type { Glance } from '../openstack';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import type { Details } from './notifications';
import { instanceSpec } from './instance-spec';
import { TaskState } from './states';

/** What snapshots work with. */
export interface SnapshotsParts {
  readonly driver: ComputeDriver;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly glance: Glance;
  readonly instanceNameTemplate: string;
}

/** The task states a server goes through while its image is made. */
export interface SnapshotStates {
  readonly before: string;
  readonly pending: string;
  readonly uploading: string;
}

const snapshotSchema = z.object({ image_id: z.string() });
const backupSchema = snapshotSchema.extend({
  backup_type: z.string(),
  rotation: z.number().int().nonnegative(),
});
const UPLOADS = { pending: TaskState.IMAGE_PENDING_UPLOAD, uploading: TaskState.IMAGE_UPLOADING };

/** Makes images of servers. */
export class Snapshots {
  constructor(private readonly parts: SnapshotsParts) {}

  async snapshot(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { image_id: imageId } = snapshotSchema.parse(args);
    await this.parts.actions.run(
      context,
      instance,
      'snapshot_instance',
      async (log, signal) => {
        const states = { before: TaskState.IMAGE_SNAPSHOT, ...UPLOADS };
        await this.unlessDeleted(imageId, signal, log, async () => {
          instance.set('task_state', states.before);
          await this.parts.records.save(context, instance, [TaskState.IMAGE_SNAPSHOT_PENDING]);
          await this.fill(context, instance, imageId, states, signal);
          instance.set('task_state', null);
          await this.parts.records.save(context, instance, [states.uploading]);
        });
      },
      toldImage(imageId),
    );
  }

  /** As a snapshot; of the server's backups of this type the `rotation` newest are kept. */
  async backup(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { image_id: imageId, backup_type: backupType, rotation } = backupSchema.parse(args);
    await this.parts.actions.run(
      context,
      instance,
      'backup_instance',
      async (log, signal) => {
        const states = { before: TaskState.IMAGE_BACKUP, ...UPLOADS };
        await this.unlessDeleted(imageId, signal, log, async () => {
          await this.fill(context, instance, imageId, states, signal);
          instance.set('task_state', null);
          await this.parts.records.save(context, instance, [states.uploading]);
          await this.rotate(instance, backupType, rotation, log);
        });
      },
      toldImage(imageId),
    );
  }

  /** Copies the root disk and gives the copy to Glance. The server is in `states.uploading` then. */
  async fill(
    context: RequestContext,
    instance: Instance,
    imageId: string,
    states: SnapshotStates,
    signal: AbortSignal,
  ): Promise<void> {
    const { driver, records, glance } = this.parts;
    instance.set('power_state', await this.powerState(instance));
    await records.save(context, instance);
    instance.set('task_state', states.pending);
    await records.save(context, instance, [states.before]);
    const copy = await driver.snapshot(instanceSpec(instance, this.parts.instanceNameTemplate), signal);
    try {
      instance.set('task_state', states.uploading);
      await records.save(context, instance, [states.pending]);
      await glance.update(imageId, {
        image_location: 'snapshot',
        image_state: 'available',
        owner_id: instance.projectId,
        container_format: 'bare',
        disk_format: copy.diskFormat,
      });
      await glance.upload(imageId, copy, signal);
    } finally {
      await copy.discard();
    }
  }

  /** Runs `work`; without success there is no image, and a server that is deleted meanwhile is no failure. */
  async unlessDeleted(
    imageId: string,
    signal: AbortSignal,
    log: Logger,
    work: () => Promise<void>,
  ): Promise<void> {
    try {
      await work();
    } catch (error) {
      await this.parts.glance
        .delete(imageId)
        .catch((failure: unknown) =>
          log.warn(`image ${imageId} could not be deleted: ${describeError(failure)}`),
        );
      const deleted =
        signal.aborted ||
        isRemoteError(error, 'InstanceNotFound') ||
        isRemoteError(error, 'UnexpectedDeletingTaskStateError');
      if (!deleted) throw error;
      log.info('the server was deleted while its image was made');
    }
  }

  /** Deletes the images of a server that never got their data: nothing fills them any more after a restart. */
  async deleteUnfinished(instance: Instance): Promise<void> {
    const { glance } = this.parts;
    for (const status of ['queued', 'saving']) {
      for (const id of await glance.findByProperties({ instance_uuid: instance.uuid, status }))
        await glance.delete(id);
    }
  }

  private async rotate(instance: Instance, backupType: string, rotation: number, log: Logger): Promise<void> {
    const { glance } = this.parts;
    const backups = await glance.findByProperties({
      image_type: 'backup',
      backup_type: backupType,
      instance_uuid: instance.uuid,
    });
    for (const id of backups.slice(rotation)) {
      await glance
        .delete(id)
        .catch((error: unknown) =>
          log.warn(`old backup ${id} could not be deleted: ${describeError(error)}`),
        );
    }
  }

  private async powerState(instance: Instance): Promise<PowerState> {
    try {
      return await this.parts.driver.getPowerState(instance.uuid);
    } catch (error) {
      if (error instanceof InstanceNotFound) return PowerState.NOSTATE;
      throw error;
    }
  }
}

/** What notifications say of a snapshot besides. */
function toldImage(imageId: string): Details {
  return { versioned: { snapshot_image_id: imageId } };
}
