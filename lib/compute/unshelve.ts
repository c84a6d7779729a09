/**
 * Servers taken from the shelf: built anew from the image they were kept in, under their own name and addresses
 * (nova/compute/manager.py, unshelve_instance). The image is used once, so that no µVM is made of it.
 */
import { z } from 'zod';
import type {
  ComputeDriver,
  ImageSpec,
  InstanceIdentity,
  InstanceSpec,
  SpawnOutcome,
} from '../../drivers/driver';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import { type Instance, novaTime } from '../objects';
import type { Placement } from '../openstack';
import type { BootRecorder } from '../sidecar';
import { Timeline } from '../timeline';
import { requestTrace } from '../tracing';
import { type DeviceTags, tellingOfDevices } from './device-tags';
import type { ExternalEvents } from './external-events';
import type { InstanceActions } from './instance-actions';
import type { InstanceRecords } from './instance-records';
import { imageSpecFromDict, imageSpecFromInstance, instanceSpec } from './instance-spec';
import { buildIdentity } from './metadata';
import type { ServerNetworks } from './network';
import type { Power } from './power';
import type { ResourceTracker } from './resource-tracker';
import type { SchedulerNews } from './scheduler-news';
import { forgetShelving } from './shelving';
import { TaskState, VmState } from './states';
import { VifPlugging, type VifPluggingPolicy } from './vif-plugging';

/** What unshelving works with. */
export interface UnshelveParts {
  readonly driver: Pick<ComputeDriver, 'spawn' | 'destroy'>;
  readonly actions: InstanceActions;
  readonly records: InstanceRecords;
  readonly networks: Pick<ServerNetworks, 'moveHere'>;
  readonly deviceTags: Pick<DeviceTags, 'tags'>;
  readonly events: ExternalEvents;
  readonly placement: Pick<Placement, 'deleteAllocations'>;
  readonly power: Pick<Power, 'powerState' | 'deleteShelvedImage'>;
  readonly tracker: Pick<ResourceTracker, 'nodeName' | 'claim' | 'track' | 'release' | 'publish'>;
  readonly scheduler: Pick<SchedulerNews, 'instanceUpdated'>;
  readonly boots: BootRecorder;
  readonly options: {
    readonly host: string;
    readonly instanceNameTemplate: string;
    readonly forceConfigDrive: boolean;
    readonly vifPlugging: VifPluggingPolicy;
  };
}

/** One server being brought up. */
interface Spawning {
  readonly spec: InstanceSpec;
  readonly timeline: Timeline;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

const imageSchema = z.looseObject({ id: z.string() });

/** Takes servers from the shelf. */
export class Unshelve {
  constructor(private readonly parts: UnshelveParts) {}

  /** A failure leaves the server on the shelf: it may be asked for again. */
  async unshelve(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { actions, records, power, tracker, scheduler, options } = this.parts;
    await actions.run(context, instance, 'unshelve_instance', async (log, signal) => {
      const image = imageOf(instance, args.image);
      try {
        tracker.claim(instance);
        // All in one save: a service that dies from here on finds the server among its own when it starts.
        instance.update({
          task_state: TaskState.SPAWNING,
          host: options.host,
          node: tracker.nodeName,
          launched_on: options.host,
        });
        await records.save(context, instance);
        await this.spawn(context, instance, image, log, signal);
      } catch (error) {
        await this.putBack(context, instance);
        throw error;
      }
      await power.deleteShelvedImage(instance, log);
      forgetShelving(instance);
      instance.update({
        vm_state: VmState.ACTIVE,
        task_state: null,
        power_state: await power.powerState(instance),
        launched_at: novaTime(new Date()),
      });
      await records.save(context, instance, [TaskState.SPAWNING]);
      tracker.track(instance);
      await tracker.publish(context);
      void scheduler.instanceUpdated(context, instance);
    });
  }

  /** The server is off this host again, as before. The caller saves it. */
  async putBack(context: RequestContext, instance: Instance): Promise<void> {
    const { driver, placement, tracker, options } = this.parts;
    await driver.destroy({ uuid: instance.uuid, name: instance.nameFrom(options.instanceNameTemplate) });
    await placement.deleteAllocations(instance.uuid);
    tracker.release(instance.uuid);
    await tracker.publish(context);
    instance.update({ host: null, node: null });
  }

  private async spawn(
    context: RequestContext,
    instance: Instance,
    image: ImageSpec,
    log: Logger,
    signal: AbortSignal,
  ): Promise<void> {
    const timeline = new Timeline(requestTrace('unshelve', context));
    const boot = this.parts.boots.begin({ instanceUuid: instance.uuid, imageId: image.id, timeline, log });
    try {
      const trusted = { ...image, trust: await this.parts.records.imageTrust(context, instance) };
      const spec = instanceSpec(instance, this.parts.options.instanceNameTemplate, trusted);
      const outcome = await timeline.run(() =>
        this.bringUp(context, instance, { spec, timeline, log, signal }),
      );
      timeline.mark('active');
      boot.active(outcome);
    } catch (error) {
      boot.failed(error);
      throw error;
    }
  }

  private async bringUp(
    context: RequestContext,
    instance: Instance,
    { spec, timeline, log, signal }: Spawning,
  ): Promise<SpawnOutcome> {
    const { driver, records, networks, deviceTags, events, options } = this.parts;
    const network = await timeline.phase('neutron', () =>
      networks.moveHere(instance, instance.networkInfo, signal),
    );
    await records.saveNetworkInfo(context, instance, network);
    const plugging = new VifPlugging(events, instance.uuid, network, options.vifPlugging, log);
    try {
      const identity = (): InstanceIdentity =>
        buildIdentity({
          instance,
          networkInfo: network,
          adminPassword: null,
          injectedFiles: [],
          forceConfigDrive: options.forceConfigDrive,
        });
      const tags = await deviceTags.tags(context, instance);
      return await driver.spawn({
        instance: spec,
        template: { none: 'the image of a shelved server is used once' },
        network: Promise.resolve(network),
        identity: Promise.resolve(identity()),
        ...tellingOfDevices(instance, tags, identity),
        vifsPlugged: () => plugging.wait(signal),
        timeline,
        signal,
      });
    } finally {
      plugging.cancel();
    }
  }
}

/** The image the conductor found; without one, that of the server itself, as by Nova. */
function imageOf(instance: Instance, image: unknown): ImageSpec {
  if (image === null || image === undefined) return imageSpecFromInstance(instance);
  return imageSpecFromDict(image, imageSchema.parse(image).id);
}
