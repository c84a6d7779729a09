/**
 * One attempt to build one server on this host: what overlaps what, and what is taken back when it fails.
 *
 * The restore starts at once; Neutron, the database and the rest of OpenStack are asked beside it, and everything meets
 * at the driver's hot-plug. Nova's state machine is followed save by save, in order, on a chain of its own.
 */
import type {
  ComputeDriver,
  InstanceIdentity,
  InstanceSpec,
  SpawnOutcome,
  SpawnRequest,
} from '../../drivers/driver';
import { PowerState } from '../../drivers/driver';
import { allOrFirstFailure } from '../all-or-first-failure';
import type { Templates } from '../bake';
import { BuildAbortException, InstanceNotFound, describeError } from '../exceptions';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import { type BlockDeviceMapping, type Instance, type NetworkInfo, novaTime } from '../objects';
import type { Placement } from '../openstack';
import type { BootRecorder } from '../sidecar';
import type { Squirrel } from '../squirrel';
import type { Timeline } from '../timeline';
import type { BuildRequest } from './build-request';
import { bootColdInstead } from './clone-fallback';
import type { ConductorTasks } from './conductor-tasks';
import { type TagsByDevice, deviceMetadata } from './device-tags';
import type { ExternalEvents } from './external-events';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import { noteMachineType } from './machine-type';
import { buildIdentity, diskBus, diskPrefix, noteConfigDrive } from './metadata';
import type { ServerNetworks } from './network';
import type { InstanceNews } from './notifications';
import type { ResourceTracker } from './resource-tracker';
import { SaveChain } from './save-chain';
import type { SchedulerNews } from './scheduler-news';
import { TaskState, VmState } from './states';
import { VifPlugging, type VifPluggingPolicy } from './vif-plugging';
import type { Vtpm } from './vtpm';

/** What builds work with. */
export interface BuilderParts {
  readonly driver: Pick<ComputeDriver, 'spawn' | 'destroy'>;
  readonly templates: Pick<Templates, 'find' | 'wanted'>;
  readonly squirrel: Pick<Squirrel, 'quarantine'>;
  readonly records: InstanceRecords;
  readonly tracker: Pick<
    ResourceTracker,
    'nodeName' | 'claim' | 'track' | 'release' | 'publish' | 'buildSucceeded' | 'buildFailed'
  >;
  readonly networks: Pick<ServerNetworks, 'allocate' | 'deallocate'>;
  readonly placement: Pick<Placement, 'deleteAllocations'>;
  readonly conductor: Pick<ConductorTasks, 'buildInstances'>;
  readonly scheduler: Pick<SchedulerNews, 'instanceUpdated'>;
  readonly vtpm: Pick<Vtpm, 'withSecret' | 'deleteSecret'>;
  readonly events: ExternalEvents;
  readonly news: Pick<InstanceNews, 'tell'>;
  readonly locks: InstanceLocks;
  readonly boots: BootRecorder;
  readonly logger: Logger;
  readonly options: BuilderOptions;
}

/** The operator's options that concern builds. */
export interface BuilderOptions {
  readonly host: string;
  readonly instanceNameTemplate: string;
  readonly forceConfigDrive: boolean;
  readonly vifPlugging: VifPluggingPolicy;
}

/** One attempt to build one server on this host; takes back all it made when it fails. */
export class BuildAttempt {
  private readonly abort = new AbortController();
  private readonly saves = new SaveChain((error) => this.abort.abort(error));
  private readonly instance: Instance;
  private readonly spec: InstanceSpec;
  private plugging: VifPlugging | null = null;

  constructor(
    private readonly parts: BuilderParts,
    private readonly context: RequestContext,
    private readonly request: BuildRequest,
    private readonly timeline: Timeline,
    private readonly log: Logger,
  ) {
    this.instance = request.instance;
    const certificateIds = request.instance.trustedCertificateIds ?? [];
    const image = { ...request.image, trust: { certificateIds, requester: context } };
    this.spec = instanceSpec(request.instance, parts.options.instanceNameTemplate, image);
  }

  /** @returns how the server came up, and what happens to it after it is active (settles when the guest is ready) */
  async run(signal: AbortSignal): Promise<{ outcome: SpawnOutcome; followUp: Promise<void> }> {
    const { driver, templates, tracker, scheduler, vtpm } = this.parts;
    // Before all else: no other save of the server is under way then.
    const instance = await vtpm.withSecret(this.context, this.instance, this.spec);
    const onAbort = (): void => this.abort.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();

    const network = this.timeline.phase('neutron', () => this.allocateNetwork());
    const identity = network.then((networkInfo) => this.identity(networkInfo));
    for (const promise of [network, identity]) promise.catch(() => undefined);
    try {
      this.refuseUnsupported();
      tracker.claim(this.instance);
      const template = await this.timeline.phase('template', () =>
        templates.find(this.spec.image, this.spec.flavor, this.abort.signal),
      );
      if ('none' in template) templates.wanted(this.spec.image);
      const outcome = await driver.spawn({
        instance,
        template,
        network,
        identity,
        ...this.placing(network),
        vifsPlugged: () => this.waitForVifs(),
        timeline: this.timeline,
        signal: this.abort.signal,
      });
      await this.finish(outcome, await network);
      void scheduler.instanceUpdated(this.context, this.instance);
      const uvmKey = 'uvm' in template ? template.uvm.key : '';
      return { outcome, followUp: this.followReady(outcome, uvmKey, network, identity) };
    } catch (error) {
      const cause: unknown = this.abort.signal.aborted ? this.abort.signal.reason : error;
      this.abort.abort(cause);
      await this.undo(network);
      throw cause;
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.plugging?.cancel();
      void tracker
        .publish(this.context)
        .catch((error: unknown) => this.log.warn(`usage: ${describeError(error)}`));
    }
  }

  /** The saves up to `spawning`, in Nova's order; ports are made once the first has shown that the server is still ours. */
  private async allocateNetwork(): Promise<NetworkInfo> {
    const { records, networks, tracker, options, events } = this.parts;
    const { context, instance, request, saves } = this;
    saves.push(async () => {
      instance.update({ vm_state: VmState.BUILDING, task_state: null });
      noteConfigDrive(instance, options.forceConfigDrive);
      await records.save(context, instance, [TaskState.SCHEDULING, null]);
    });
    const ours = saves.settled();
    saves.push(async () => {
      instance.update({ host: options.host, node: tracker.nodeName, launched_on: options.host });
      await records.save(context, instance);
      instance.set('task_state', TaskState.NETWORKING);
      await records.save(context, instance, [null]);
    });
    const networkInfo = await networks.allocate({
      instanceUuid: instance.uuid,
      projectId: instance.projectId,
      hostname: instance.hostname ?? instance.uuid,
      availabilityZone: instance.availabilityZone,
      requestedNetworks: request.requestedNetworks,
      securityGroups: request.securityGroups,
      requester: context,
      ours,
      signal: this.abort.signal,
    });
    this.plugging = new VifPlugging(events, instance.uuid, networkInfo, options.vifPlugging, this.log);
    saves.push(async () => {
      const tags = new Map(networkInfo.map((vif, index) => [vif.id, request.networkTags[index] ?? null]));
      instance.update({
        root_device_name: `/dev/${diskPrefix(instance)}a`,
        task_state: TaskState.BLOCK_DEVICE_MAPPING,
      });
      // Records of their own, each: none waits for another.
      await allOrFirstFailure([
        records.save(context, instance),
        records.createVirtualInterfaces(context, instance.uuid, networkInfo, tags),
        records.saveNetworkInfo(context, instance, networkInfo),
        this.nameDisks(),
      ]);
      instance.set('task_state', TaskState.SPAWNING);
      await records.save(context, instance, [TaskState.BLOCK_DEVICE_MAPPING]);
    });
    return networkInfo;
  }

  /** The server's disks by their names in the guest. */
  private disks(): ReadonlyMap<string, BlockDeviceMapping> {
    const order = (mapping: BlockDeviceMapping): number =>
      mapping.bootIndex === 0 ? 0 : mapping.guestFormat === 'swap' ? 2 : 1;
    const disks = [...this.request.blockDevices].sort((a, b) => order(a) - order(b));
    const prefix = diskPrefix(this.instance);
    return new Map(disks.map((disk, index) => [`${prefix}${String.fromCharCode(97 + index)}`, disk]));
  }

  private async nameDisks(): Promise<void> {
    for (const [name, mapping] of this.disks()) {
      mapping.update({ device_name: `/dev/${name}`, disk_bus: diskBus(this.instance) });
      await this.parts.records.saveBlockDeviceMapping(this.context, mapping);
    }
  }

  /** What the user calls devices; nothing for most servers. */
  private tags(networkInfo: NetworkInfo): TagsByDevice {
    const nics = networkInfo.map((vif, index) => [vif.address, this.request.networkTags[index]] as const);
    const disks = [...this.disks()].map(([name, mapping]) => [name, mapping.tag] as const);
    return new Map(
      [...nics, ...disks].flatMap(([name, tag]) => (typeof tag === 'string' ? [[name, tag] as const] : [])),
    );
  }

  /** Devices that have tags are told of in the identity, with their places. */
  private placing(network: Promise<NetworkInfo>): Pick<SpawnRequest, 'identityWith'> {
    const { networkTags, blockDevices } = this.request;
    if ([...networkTags, ...blockDevices.map(({ tag }) => tag)].every((tag) => tag === null)) return {};
    return {
      identityWith: async (devices) => {
        const networkInfo = await network;
        this.instance.set('device_metadata', deviceMetadata(devices, this.tags(networkInfo)));
        return this.identity(networkInfo);
      },
    };
  }

  private identity(networkInfo: NetworkInfo): InstanceIdentity {
    return buildIdentity({
      instance: this.instance,
      networkInfo,
      adminPassword: this.request.adminPassword,
      injectedFiles: this.request.injectedFiles,
      forceConfigDrive: this.parts.options.forceConfigDrive,
    });
  }

  private async waitForVifs(): Promise<void> {
    if (this.plugging === null) throw new Error('the network was not allocated');
    await this.plugging.wait(this.abort.signal);
  }

  private refuseUnsupported(): void {
    const foreign = this.request.blockDevices.find((mapping) => mapping.destinationType !== 'local');
    if (foreign !== undefined) {
      throw new BuildAbortException(
        `this host does not attach volumes yet (block device ${foreign.sourceType ?? '?'} to ${foreign.destinationType ?? '?'})`,
      );
    }
  }

  /** The last save: the server is active. */
  private async finish(outcome: SpawnOutcome, networkInfo: NetworkInfo): Promise<void> {
    const { records, tracker } = this.parts;
    const active = networkInfo.map((vif) => ({ ...vif, active: true }));
    await this.timeline.phase('saves', async () => {
      await this.saves.settled();
      this.instance.update({
        vm_state: VmState.ACTIVE,
        task_state: null,
        power_state: PowerState.RUNNING,
        launched_at: novaTime(new Date()),
      });
      noteMachineType(this.instance);
      await allOrFirstFailure([
        records.saveNetworkInfo(this.context, this.instance, active),
        records.save(this.context, this.instance, [TaskState.SPAWNING]),
      ]);
    });
    tracker.track(this.instance);
    this.log.debug({ how: outcome.how }, 'active');
  }

  /** A clone is active once it runs, and gets its identity right after; should that fail, it boots cold instead. */
  private async followReady(
    outcome: SpawnOutcome,
    uvmKey: string,
    network: Promise<NetworkInfo>,
    identity: Promise<InstanceIdentity>,
  ): Promise<void> {
    if (outcome.how === 'cold') return;
    try {
      const ready = await outcome.ready;
      this.log.info({ ...ready }, 'guest is ready');
      return;
    } catch (error) {
      // Deleted or stopped before it was ready: nothing is wrong with the µVM.
      if (error instanceof InstanceNotFound) throw error;
      const why = `the µVM clone did not become ready: ${describeError(error)}`;
      await this.fallBack(uvmKey, why, network, identity);
      throw new Error(`${why}; the server was booted cold instead`, { cause: error });
    }
  }

  private async fallBack(
    uvmKey: string,
    why: string,
    network: Promise<NetworkInfo>,
    identity: Promise<InstanceIdentity>,
  ): Promise<void> {
    const { locks, records } = this.parts;
    await locks.run(this.instance.uuid, async (signal) => {
      const current = await records.get(this.context, this.instance.uuid);
      // Stopped meanwhile: its disk is sealed, the next start makes it its server.
      if (current.vmState !== VmState.ACTIVE) return;
      this.log.error(`${why}; booting the server cold`);
      try {
        await bootColdInstead(
          this.parts,
          { instance: this.spec, network, identity, ...this.placing(network), signal },
          uvmKey,
          why,
        );
      } catch (error) {
        await records.createFault(this.context, current.uuid, error);
        current.update({ vm_state: VmState.ERROR, power_state: PowerState.NOSTATE });
        await records.save(this.context, current);
      }
    });
  }

  /** Takes back ports, records and the claim; the driver has taken back its own. */
  private async undo(network: Promise<NetworkInfo>): Promise<void> {
    const { networks, records, tracker, vtpm } = this.parts;
    const { context, instance, request } = this;
    tracker.release(instance.uuid);
    // What comes next writes the server's states itself; no save of this attempt may come after it.
    await this.saves.stop();
    const networkInfo = await network.catch(() => null);
    const steps: (() => Promise<unknown>)[] = [
      () => vtpm.deleteSecret(context, instance),
      ...(networkInfo === null
        ? []
        : [
            () =>
              networks.deallocate(instance, networkInfo, { requestedNetworks: request.requestedNetworks }),
            () => records.deleteVirtualInterfaces(context, instance.uuid),
            () => records.saveNetworkInfo(context, instance, []),
          ]),
    ];
    for (const step of steps) {
      await step().catch((error: unknown) =>
        this.log.warn(`clean-up after a failed build: ${describeError(error)}`),
      );
    }
  }
}
