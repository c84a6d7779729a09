/** Payloads of legacy notifications about servers (nova/notifications/base.py, info_from_instance): what Ceilometer reads. */
import { faultFields } from '../faults';
import { type Instance } from '../../objects';
import { strtime } from '../../python-time';

/** What a payload is made of besides the server. */
export interface LegacyParts {
  /** Where images are, `http://glance:9292`; null when only a user's catalogue would tell. */
  readonly glanceUrl: string | null;
  readonly error?: unknown;
  /** More fields, or others in their place. */
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** The payload of `compute.instance.<action>.<phase>`. */
export function legacyPayload(instance: Instance, parts: LegacyParts): Record<string, unknown> {
  const { flavor, imageRef } = instance;
  return {
    tenant_id: instance.projectId,
    user_id: instance.userId,
    instance_id: instance.uuid,
    display_name: instance.displayName,
    reservation_id: instance.reservationId,
    hostname: instance.hostname,
    instance_type: flavor.name,
    instance_type_id: flavor.has('id') ? flavor.id : null,
    instance_flavor_id: flavor.flavorId,
    architecture: field(instance, 'architecture'),
    memory_mb: flavor.memoryMb,
    disk_gb: flavor.rootGb + flavor.ephemeralGb,
    vcpus: flavor.vcpus,
    root_gb: flavor.rootGb,
    ephemeral_gb: flavor.ephemeralGb,
    host: instance.host,
    node: instance.node,
    availability_zone: instance.availabilityZone,
    cell_name: field(instance, 'cell_name') ?? '',
    // Python's str() of a time, and Nova's own notation of the others.
    created_at:
      dateOf(instance, 'created_at')?.toISOString().replace('T', ' ').replace(/\..*/, '+00:00') ?? 'None',
    terminated_at: timeOf(instance, 'terminated_at'),
    deleted_at: timeOf(instance, 'deleted_at'),
    launched_at: timeOf(instance, 'launched_at'),
    image_ref_url: imageUrl(imageRef, parts.glanceUrl),
    os_type: field(instance, 'os_type'),
    kernel_id: field(instance, 'kernel_id'),
    ramdisk_id: field(instance, 'ramdisk_id'),
    state: instance.vmState,
    state_description: instance.taskState ?? '',
    progress: field(instance, 'progress') ?? '',
    access_ip_v4: field(instance, 'access_ip_v4'),
    access_ip_v6: field(instance, 'access_ip_v6'),
    fixed_ips: instance.networkInfo.flatMap((vif) =>
      vif.network.subnets.flatMap((subnet) =>
        subnet.ips.map((ip) => ({ ...ip, label: vif.network.label ?? null, vif_mac: vif.address })),
      ),
    ),
    image_meta: imageMeta(instance),
    metadata: instance.has('metadata') ? instance.metadata : {},
    ...fault(parts.error),
    ...parts.extra,
  };
}

/** What Nova keeps of the server's image. */
export function imageMeta(instance: Instance): Record<string, string | null> {
  const kept = Object.entries(instance.systemMetadata).filter(([key]) => key.startsWith('image_'));
  return Object.fromEntries(kept.map(([key, value]) => [key.slice('image_'.length), value]));
}

function fault(error: unknown): Record<string, unknown> {
  if (error === undefined) return {};
  const { code, message } = faultFields(error);
  return { exception: message, message, code };
}

function field(instance: Instance, name: string): unknown {
  return instance.has(name) ? instance.get(name) : null;
}

function dateOf(instance: Instance, name: string): Date | null {
  const value = field(instance, name);
  return typeof value === 'string' ? new Date(value) : null;
}

/** Empty when the time has not come. */
function timeOf(instance: Instance, name: string): string {
  const date = dateOf(instance, name);
  return date === null ? '' : strtime(date);
}

/** Where an image is; only its ID when only a user's catalogue would tell. */
export function imageUrl(imageRef: string, glanceUrl: string | null): string {
  return glanceUrl === null ? imageRef : `${glanceUrl}/images/${imageRef}`;
}
