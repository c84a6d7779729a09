/** Payloads of versioned notifications about servers (nova/notifications/objects/instance.py): objects of Nova by hand. */
import type { AuditPeriod } from '../audit-period';
import { NovaException } from '../../exceptions';
import type { RequestContext } from '../../messaging';
import { type Instance, NovaObject, novaTime, serialise } from '../../objects';

type Data = Readonly<Record<string, unknown>>;

/** Payload classes that add fields to the common ones, by action. */
const PAYLOADS: Readonly<Record<string, readonly [name: string, version: string]>> = {
  create: ['InstanceCreatePayload', '1.12'],
  rebuild: ['InstanceActionRebuildPayload', '1.9'],
  rescue: ['InstanceActionRescuePayload', '1.3'],
  snapshot: ['InstanceActionSnapshotPayload', '1.9'],
};
const POWER_STATES: Readonly<Record<number, string>> = {
  0: 'pending',
  1: 'running',
  3: 'paused',
  4: 'shutdown',
  6: 'crashed',
  7: 'suspended',
};
const FLAVOR_FIELDS = [
  'flavorid',
  'memory_mb',
  'vcpus',
  'root_gb',
  'ephemeral_gb',
  'name',
  'swap',
  'rxtx_factor',
  'vcpu_weight',
  'disabled',
  'is_public',
  'extra_specs',
  'projects',
  'description',
];
/** Fields that are passed on under their own names. */
const SAME = [
  'uuid',
  'user_id',
  'reservation_id',
  'display_name',
  'display_description',
  'host',
  'node',
  'os_type',
  'architecture',
  'availability_zone',
  'key_name',
  'kernel_id',
  'ramdisk_id',
  'created_at',
  'launched_at',
  'terminated_at',
  'deleted_at',
  'updated_at',
  'task_state',
  'progress',
  'metadata',
];

/** What a payload is made of besides the server. */
export interface PayloadParts {
  readonly context: RequestContext;
  readonly action: string;
  readonly error?: unknown;
  readonly instanceName: string;
  /** Fields of the action's own: `snapshot_image_id`. */
  readonly details: Data;
}

/** The payload of `instance.<action>.<phase>`. */
export function versionedPayload(instance: Instance, parts: PayloadParts): unknown {
  const [name, version] = PAYLOADS[parts.action] ?? ['InstanceActionPayload', '1.8'];
  return object(name, version, {
    ...commonFields(instance, parts.context),
    fault: parts.error === undefined ? null : exceptionPayload(parts.error),
    ...(parts.action === 'create' ? creationFields(instance, parts.instanceName) : {}),
    ...(parts.action === 'rebuild' ? { trusted_image_certificates: certificates(instance) } : {}),
    ...parts.details,
  });
}

/** The payload of `instance.exists`. */
export function existsPayload(
  instance: Instance,
  context: RequestContext,
  { begin, end }: AuditPeriod,
): unknown {
  const period = { audit_period_beginning: novaTime(begin), audit_period_ending: novaTime(end) };
  return object('InstanceExistsPayload', '2.0', {
    ...commonFields(instance, context),
    audit_period: object('AuditPeriodPayload', '1.0', period),
  });
}

function commonFields(instance: Instance, context: RequestContext): Data {
  const byUser = context.projectId !== null && context.userId !== null;
  return {
    ...Object.fromEntries(SAME.map((field) => [field, valueOf(instance, field)])),
    tenant_id: instance.projectId,
    host_name: valueOf(instance, 'hostname'),
    image_uuid: valueOf(instance, 'image_ref'),
    state: instance.vmState,
    power_state: POWER_STATES[instance.powerState ?? 0] ?? 'pending',
    locked: valueOf(instance, 'locked') === true,
    locked_reason: instance.systemMetadata.locked_reason ?? null,
    auto_disk_config: valueOf(instance, 'auto_disk_config') === true ? 'AUTO' : 'MANUAL',
    flavor: object(
      'FlavorPayload',
      '1.4',
      Object.fromEntries(FLAVOR_FIELDS.map((field) => [field, valueOf(instance.flavor, field)])),
    ),
    ip_addresses: addresses(instance),
    block_devices: null,
    request_id: byUser ? context.requestId : null,
    action_initiator_user: context.userId,
    action_initiator_project: context.projectId,
  };
}

function creationFields(instance: Instance, instanceName: string): Data {
  const tags = valueOf(instance, 'tags');
  return {
    block_devices: [],
    keypairs: instance.keypairs.map((keypair) =>
      object(
        'KeypairPayload',
        '1.0',
        Object.fromEntries(
          ['user_id', 'name', 'fingerprint', 'public_key', 'type'].map((field) => [
            field,
            valueOf(keypair, field),
          ]),
        ),
      ),
    ),
    tags: members(tags).map((tag) => valueOf(tag, 'tag')),
    trusted_image_certificates: certificates(instance),
    instance_name: instanceName,
  };
}

function certificates(instance: Instance): unknown {
  const trusted = valueOf(instance, 'trusted_certs');
  return trusted instanceof NovaObject ? valueOf(trusted, 'ids') : null;
}

function addresses(instance: Instance): unknown[] {
  return instance.networkInfo.flatMap((vif) =>
    vif.network.subnets.flatMap((subnet) =>
      subnet.ips.map((ip) =>
        object('IpPayload', '1.0', {
          label: vif.network.label ?? null,
          mac: vif.address,
          meta: {},
          port_uuid: vif.id,
          version: ip.version ?? null,
          address: ip.address,
          device_name: vif.devname,
        }),
      ),
    ),
  );
}

function exceptionPayload(error: unknown): unknown {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return object('ExceptionPayload', '1.1', {
    module_name: error instanceof NovaException ? error.novaModule : 'builtins',
    function_name: 'unknown',
    exception: name,
    exception_message: message,
    traceback: stack ?? '',
  });
}

function members(list: unknown): readonly NovaObject[] {
  if (!(list instanceof NovaObject) || !list.has('objects')) return [];
  const objects = list.get('objects');
  return Array.isArray(objects) ? objects.filter((item) => item instanceof NovaObject) : [];
}

/** A field as it goes over the wire; null for one that is not loaded. */
function valueOf(from: NovaObject, field: string): unknown {
  if (!from.has(field)) return null;
  const value = from.get(field);
  return value instanceof NovaObject ? value : (serialise(value) ?? null);
}

function object(name: string, version: string, data: Data): unknown {
  return {
    'nova_object.name': name,
    'nova_object.namespace': 'nova',
    'nova_object.version': version,
    'nova_object.data': data,
  };
}
