/**
 * NICs of a server that are added and taken away during its life (nova/compute/manager.py: attach_interface,
 * detach_interface, inject_network_info).
 */
import { z } from 'zod';
import type { ComputeDriver } from '../../drivers/driver';
import {
  InstanceNotFound,
  InterfaceAttachFailed,
  InterfaceAttachFailedNoNetwork,
  InterfaceDetachFailed,
  PortInUse,
  PortNotFound,
  describeError,
} from '../exceptions';
import { type Logger, logAbout } from '../log';
import type { RequestContext } from '../messaging';
import type { Instance, NetworkInfo, Vif } from '../objects';
import type { DeviceTags } from './device-tags';
import type { InstanceActions } from './instance-actions';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import { instanceSpec } from './instance-spec';
import type { RequestedNetworks, ServerNetworks } from './network';
import type { NetworkCache } from './network-cache';

/** What interfaces work with. */
export interface InterfacesParts {
  readonly driver: ComputeDriver;
  readonly actions: InstanceActions;
  readonly locks: Pick<InstanceLocks, 'run'>;
  readonly records: InstanceRecords;
  readonly networks: ServerNetworks;
  readonly networkCache: NetworkCache;
  readonly deviceTags: DeviceTags;
  readonly logger: Logger;
  readonly instanceNameTemplate: string;
}

const attachSchema = z.object({
  network_id: z.string().nullish(),
  port_id: z.string().nullish(),
  requested_ip: z.string().nullish(),
  tag: z.string().nullish(),
});

/** Attaches and detaches NICs. */
export class Interfaces {
  constructor(private readonly parts: InterfacesParts) {}

  /**
   * Makes or binds a port and plugs it in. @returns the NIC as Nova's network model has it
   * @throws InterfaceAttachFailed when the guest could not get it, and what Neutron has against the port
   */
  async attach(
    context: RequestContext,
    instance: Instance,
    args: Readonly<Record<string, unknown>>,
  ): Promise<Vif> {
    const { actions, driver, networkCache, instanceNameTemplate } = this.parts;
    const asked = attachSchema.parse(args);
    const tag = asked.tag ?? null;
    return actions.run(context, instance, 'attach_interface', async (log) => {
      const added: Vif[] = [];
      await networkCache.change(context, instance, async (cached) => {
        if (cached.some(({ id }) => id === asked.port_id)) {
          throw new PortInUse(`Port ${asked.port_id ?? ''} is still in use.`);
        }
        added.push(await this.connect(context, instance, requestedNic(asked, tag)));
        return [...cached, ...added];
      });
      const [vif] = added;
      if (vif === undefined) throw new InterfaceAttachFailed(failed('attach', 'to', instance));
      try {
        await this.parts.records.createVirtualInterfaces(
          context,
          instance.uuid,
          [vif],
          new Map([[vif.id, tag]]),
        );
        await driver.attachInterface(instanceSpec(instance, instanceNameTemplate), vif);
        await this.parts.deviceTags.refresh(context, instance);
      } catch (error) {
        log.warn(`port ${vif.id} could not be plugged in: ${describeError(error)}`);
        await this.letGo(context, instance, vif, log);
        throw new InterfaceAttachFailed(failed('attach', 'to', instance), { cause: error });
      }
      return vif;
    });
  }

  /** Takes a NIC out of its guest and lets go of its port. @throws PortNotFound, InterfaceDetachFailed */
  async detach(context: RequestContext, instance: Instance, portId: unknown): Promise<void> {
    const { actions, driver, records } = this.parts;
    const id = z.string().parse(portId);
    await actions.run(context, instance, 'detach_interface', async (log) => {
      const current = (await records.get(context, instance.uuid)).networkInfo;
      const vif = current.find((known) => known.id === id);
      if (vif === undefined) throw new PortNotFound(`Port ${id} is not attached`);
      try {
        await driver.detachInterface(instance.uuid, vif);
      } catch (error) {
        if (!(error instanceof InstanceNotFound)) log.warn(`port ${id}: ${describeError(error)}`);
        throw new InterfaceDetachFailed(failed('detach', 'from', instance), { cause: error });
      }
      await this.forget(context, instance, vif);
      await this.parts.deviceTags
        .refresh(context, instance)
        .catch((error: unknown) => log.warn(`device tags: ${describeError(error)}`));
    });
  }

  /**
   * Unplugs the NIC of a port that was deleted behind the server's back, as soon as nothing else is done to the server:
   * a NIC that is being detached, or goes with its server, is gone by then (nova/compute/manager.py,
   * _process_instance_vif_deleted_event).
   */
  async portDeleted(context: RequestContext, instanceUuid: string, portId: string): Promise<void> {
    const { driver, locks, records, networkCache, deviceTags } = this.parts;
    const log = logAbout(this.parts.logger, { context, instanceUuid });
    await locks.run(instanceUuid, async () => {
      const instance = await records.get(context, instanceUuid);
      const vif = instance.networkInfo.find(({ id }) => id === portId);
      if (vif === undefined) return;
      log.info(`port ${portId} was deleted: unplugging its NIC`);
      try {
        await driver.detachInterface(instanceUuid, vif);
      } catch (error) {
        log.warn(`the NIC of the deleted port ${portId} stays: ${describeError(error)}`);
        return;
      }
      await networkCache.change(context, instance, (cached) =>
        Promise.resolve(cached.filter(({ id }) => id !== portId)),
      );
      await records.deleteVirtualInterface(context, portId);
      await deviceTags.refresh(context, instance);
    });
  }

  /** Nothing is written into guests here: only Nova's picture is brought up to date, as with Nova's own driver. */
  async injectNetworkInfo(context: RequestContext, instance: Instance): Promise<void> {
    await this.parts.networkCache.refresh(context, instance);
  }

  private async connect(
    context: RequestContext,
    instance: Instance,
    requested: RequestedNetworks,
  ): Promise<Vif> {
    const vif = await this.parts.networks.attach({
      instanceUuid: instance.uuid,
      projectId: instance.projectId,
      hostname: instance.hostname ?? instance.uuid,
      availabilityZone: instance.availabilityZone,
      requested,
      securityGroups: [],
      requester: context,
      signal: new AbortController().signal,
    });
    if (vif !== null) return vif;
    throw new InterfaceAttachFailedNoNetwork(
      `No specific network was requested and none are available for project '${instance.projectId}'.`,
    );
  }

  private async letGo(context: RequestContext, instance: Instance, vif: Vif, log: Logger): Promise<void> {
    try {
      await this.parts.driver.detachInterface(instance.uuid, vif);
      await this.forget(context, instance, vif);
    } catch (error) {
      log.warn(`port ${vif.id} is left: ${describeError(error)}`);
    }
  }

  /** The port goes first: what fails after that is made good by the next refresh. */
  private async forget(context: RequestContext, instance: Instance, vif: Vif): Promise<void> {
    const { networks, networkCache, records } = this.parts;
    await networkCache.change(context, instance, async (cached): Promise<NetworkInfo> => {
      await networks.detach(instance, vif.id, vif.preserve_on_delete);
      return cached.filter(({ id }) => id !== vif.id);
    });
    await records.deleteVirtualInterface(context, vif.id);
  }
}

function requestedNic(asked: z.infer<typeof attachSchema>, tag: string | null): RequestedNetworks {
  const { network_id: networkId, port_id: portId, requested_ip: address } = asked;
  if (portId !== null && portId !== undefined) return { kind: 'these', nics: [{ portId, tag }] };
  if (networkId === null || networkId === undefined) return { kind: 'any' };
  return { kind: 'these', nics: [{ networkId, address: address ?? null, portId: null, tag }] };
}

function failed(what: string, where: string, instance: Instance): string {
  return `Failed to ${what} network adapter device ${where} ${instance.uuid}`;
}
