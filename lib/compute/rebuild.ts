/**
 * A server begun anew from an image, under its own name and addresses (nova/compute/manager.py, rebuild_instance): restored
 * from the image's µVM where there is one.
 */
import { z } from 'zod';
import type { ComputeDriver, ImageSpec, InstanceIdentity, SpawnRequest } from '../../drivers/driver';
import { PowerState } from '../../drivers/driver';
import type { Templates } from '../bake';
import { NotImplementedError, PreserveEphemeralNotSupported, describeError } from '../exceptions';
import type { Logger } from '../log';
import { type RequestContext, isRemoteError } from '../messaging';
import { type Instance, type NetworkInfo, novaTime } from '../objects';
import type { Glance } from '../openstack';
import type { BootRecorder } from '../sidecar';
import type { Squirrel } from '../squirrel';
import { Timeline } from '../timeline';
import { requestTrace } from '../tracing';
import { bootColdInstead } from './clone-fallback';
import { type DeviceTags, tellingOfDevices } from './device-tags';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import { noteMachineType } from './machine-type';
import { instanceSpec } from './instance-spec';
import { buildIdentity } from './metadata';
import type { NetworkCache } from './network-cache';
import type { Power } from './power';
import type { SchedulerNews } from './scheduler-news';
import { TaskState, VmState } from './states';
import type { Vtpm } from './vtpm';

/** What rebuilds work with. */
export interface RebuilderParts {
  readonly driver: Pick<ComputeDriver, 'destroy' | 'spawn'>;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly networkCache: NetworkCache;
  readonly deviceTags: Pick<DeviceTags, 'tags'>;
  readonly templates: Templates;
  readonly squirrel: Squirrel;
  readonly glance: Glance;
  readonly boots: BootRecorder;
  readonly power: Power;
  readonly scheduler: SchedulerNews;
  readonly vtpm: Pick<Vtpm, 'withSecret'>;
  readonly options: {
    readonly instanceNameTemplate: string;
    readonly forceConfigDrive: boolean;
  };
}

const argsSchema = z.looseObject({
  image_ref: z.string().min(1),
  new_pass: z.string().nullish(),
  /** [path, base64] pairs. */
  injected_files: z.array(z.tuple([z.string(), z.string()])).nullish(),
  recreate: z.boolean().nullish(),
  preserve_ephemeral: z.boolean().nullish(),
});
/** The image that the server had. */
const usedImageSchema = z.string().catch('');
type RebuildRequest = z.infer<typeof argsSchema>;

/** Rebuilds servers. */
export class Rebuilder {
  constructor(private readonly parts: RebuilderParts) {}

  /** A failure after the old disk is gone leaves the server in ERROR; a rebuild may be asked for again. */
  async rebuild(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { actions, records, power } = this.parts;
    const usedImage = usedImageSchema.parse(args.orig_image_ref);
    const work = async (log: Logger, signal: AbortSignal): Promise<boolean> => {
      const request = argsSchema.parse(args);
      if (request.recreate === true) {
        throw new NotImplementedError('prebake-compute does not take over servers of other hosts yet');
      }
      if (request.preserve_ephemeral === true) {
        throw new PreserveEphemeralNotSupported(
          'The current driver does not support preserving ephemeral partitions.',
        );
      }
      const before = instance.vmState;
      try {
        await this.renew(context, instance, request, log, signal);
      } catch (error) {
        const deleted =
          signal.aborted ||
          isRemoteError(error, 'InstanceNotFound') ||
          isRemoteError(error, 'UnexpectedDeletingTaskStateError');
        if (deleted) {
          log.info('the server was deleted while it was rebuilt');
          return false;
        }
        instance.set('vm_state', VmState.ERROR);
        throw error;
      }
      if (before !== VmState.STOPPED) return false;
      instance.set('task_state', TaskState.POWERING_OFF);
      await records.save(context, instance);
      return true;
    };
    const details = usedImage === '' ? {} : { usedImage };
    const stopAfterwards = await actions.run(context, instance, 'rebuild_instance', work, details);
    if (stopAfterwards) await power.stop(context, instance, false);
  }

  private async renew(
    context: RequestContext,
    instance: Instance,
    request: RebuildRequest,
    log: Logger,
    signal: AbortSignal,
  ): Promise<void> {
    const { driver, records, networkCache, deviceTags, glance, scheduler, power, options } = this.parts;
    const save = async (taskState: string, expected: string): Promise<void> => {
      instance.set('task_state', taskState);
      await records.save(context, instance, [expected]);
    };
    const record = await glance.show(request.image_ref, signal);
    const image = { ...record, trust: await records.imageTrust(context, instance) };
    instance.set('power_state', await power.powerState(instance));
    await save(TaskState.REBUILDING, TaskState.REBUILDING);
    const network = await networkCache.refresh(context, instance);
    if (instance.powerState === PowerState.RUNNING) {
      await power.powerOff(instance, true);
    }
    signal.throwIfAborted();
    await driver.destroy(instanceSpec(instance, options.instanceNameTemplate, image));
    await save(TaskState.REBUILD_BLOCK_DEVICE_MAPPING, TaskState.REBUILDING);
    await save(TaskState.REBUILD_SPAWNING, TaskState.REBUILD_BLOCK_DEVICE_MAPPING);
    const timeline = new Timeline(requestTrace('rebuild', context));
    const identity = (): InstanceIdentity => this.identity(instance, network, request);
    const tags = await deviceTags.tags(context, instance);
    const who = {
      identity: Promise.resolve(identity()),
      ...tellingOfDevices(instance, tags, identity),
    };
    await timeline.run(() => this.spawn(context, instance, image, network, who, timeline, log, signal));
    instance.update({
      vm_state: VmState.ACTIVE,
      task_state: null,
      power_state: await power.powerState(instance),
      launched_at: novaTime(new Date()),
    });
    noteMachineType(instance);
    await records.save(context, instance, [TaskState.REBUILD_SPAWNING]);
    void scheduler.instanceUpdated(context, instance);
  }

  /** A clone that does not become itself is replaced by a cold boot at once, and its µVM is not offered again. */
  private async spawn(
    context: RequestContext,
    instance: Instance,
    image: ImageSpec,
    network: NetworkInfo,
    identity: Pick<SpawnRequest, 'identity' | 'identityWith'>,
    timeline: Timeline,
    log: Logger,
    signal: AbortSignal,
  ): Promise<void> {
    const { driver, templates, boots, vtpm, options } = this.parts;
    const wanted = instanceSpec(instance, options.instanceNameTemplate, image);
    const spec = await vtpm.withSecret(context, instance, wanted);
    const request = {
      instance: spec,
      network: Promise.resolve(network),
      ...identity,
      // The ports stay bound and wired as they were: Neutron has nothing to report.
      vifsPlugged: () => Promise.resolve(),
      timeline,
      signal,
    };
    const boot = boots.begin({ instanceUuid: instance.uuid, imageId: image.id, timeline, log });
    try {
      const template = await timeline.phase('template', () => templates.find(image, spec.flavor, signal));
      if ('none' in template) templates.wanted(image);
      const outcome = await driver.spawn({ ...request, template });
      timeline.mark('active');
      boot.active(outcome);
      if (outcome.how === 'uvm') {
        try {
          await outcome.ready;
        } catch (error) {
          signal.throwIfAborted();
          const why = `the µVM clone did not become ready: ${describeError(error)}`;
          log.error(`${why}; booting the server cold`);
          await bootColdInstead(this.parts, request, 'uvm' in template ? template.uvm.key : '', why);
          boot.failed(new Error(`${why}; the server was booted cold instead`, { cause: error }));
          return;
        }
      }
      boot.ready();
    } catch (error) {
      boot.failed(error);
      throw error;
    }
  }

  private identity(instance: Instance, networkInfo: NetworkInfo, request: RebuildRequest): InstanceIdentity {
    return buildIdentity({
      instance,
      networkInfo,
      adminPassword: request.new_pass ?? null,
      injectedFiles: (request.injected_files ?? []).map(([path, content]) => ({
        path,
        content: Buffer.from(content, 'base64'),
      })),
      forceConfigDrive: this.parts.options.forceConfigDrive,
    });
  }
}
