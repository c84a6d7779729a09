/** What other services are told of servers, field by field as Nova tells it, and what they are not told. */
import pino from 'pino';
import { InstanceNews } from '../../../lib/compute/notifications';
import type { Config } from '../../../lib/config';
import { ImageUnacceptable } from '../../../lib/exceptions';
import { RequestContext } from '../../../lib/messaging';
import { Instance, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';

/** Fields in Nova's own samples (doc/notification_samples). */
const CREATE_FIELDS =
  `action_initiator_project action_initiator_user architecture auto_disk_config availability_zone block_devices created_at deleted_at
   display_description display_name fault flavor host host_name image_uuid instance_name
   ip_addresses kernel_id key_name keypairs launched_at locked locked_reason metadata
   node os_type power_state progress ramdisk_id request_id reservation_id state
   tags task_state tenant_id terminated_at trusted_image_certificates updated_at user_id uuid`.split(/\s+/);
const FLAVOR_FIELDS = `description disabled ephemeral_gb extra_specs flavorid is_public memory_mb name
   projects root_gb rxtx_factor swap vcpu_weight vcpus`.split(/\s+/);
/** Fields of nova/notifications/base.py, info_from_instance. */
const LEGACY_FIELDS =
  `access_ip_v4 access_ip_v6 architecture availability_zone cell_name created_at deleted_at disk_gb display_name
   ephemeral_gb fixed_ips host hostname image_meta image_ref_url instance_flavor_id instance_id instance_type
   instance_type_id kernel_id launched_at memory_mb metadata node os_type progress ramdisk_id reservation_id root_gb state
   state_description tenant_id terminated_at user_id vcpus`.split(/\s+/);

interface Told {
  readonly topics: readonly string[];
  readonly publisherId: string;
  readonly eventType: string;
  readonly priority: string;
  readonly payload: Record<string, unknown>;
}

function news(format: string, driver = ['messagingv2']) {
  const told: Told[] = [];
  const config = {
    default: { host: 'prebake', instanceNameTemplate: 'instance-%08x', instanceUsageAuditPeriod: 'day' },
    glance: { apiServers: ['http://glance:9292/'] },
    osloMessagingNotifications: { driver, topics: ['notifications'] },
    notifications: {
      notificationFormat: format,
      versionedNotificationsTopics: ['versioned_notifications'],
    },
  } as unknown as Config;
  const messaging = {
    notifier: (topics: readonly string[]) => ({
      notify: (_context: RequestContext, notification: Omit<Told, 'topics'>) =>
        void told.push({ topics, ...notification }),
    }),
  } as unknown as Parameters<typeof InstanceNews.create>[1];
  return { told, subject: InstanceNews.create(config, messaging, pino({ level: 'silent' })) };
}

function server(): Instance {
  const { instance } = deserialise(argsOf(recordedRequest('build_and_run_instance'))) as Record<
    string,
    unknown
  >;
  if (!(instance instanceof Instance)) throw new Error('the recorded request has no instance');
  instance.update({ vm_state: 'active', power_state: 1, launched_at: '2026-01-02T03:04:05Z' });
  return instance;
}

const context = RequestContext.admin();

function dataOf(payload: unknown): Record<string, unknown> {
  return (payload as Record<string, Record<string, unknown>>)['nova_object.data'] ?? {};
}

test('a versioned one has the fields of Nova, no more and no less', () => {
  const { told, subject } = news('versioned');
  const instance = server();
  subject.tell(context, instance, 'build_and_run_instance', 'end');
  expect(told).toMatchObject([
    {
      topics: ['versioned_notifications'],
      publisherId: 'nova-compute:prebake',
      eventType: 'instance.create.end',
      priority: 'INFO',
      payload: { 'nova_object.name': 'InstanceCreatePayload', 'nova_object.version': '1.12' },
    },
  ]);
  const data = dataOf(told[0]?.payload);
  expect(Object.keys(data).sort()).toEqual(CREATE_FIELDS);
  expect(Object.keys(dataOf(data.flavor)).sort()).toEqual(FLAVOR_FIELDS);
  expect(data).toMatchObject({ uuid: instance.uuid, state: 'active', power_state: 'running', fault: null });
});

test('one that ends a kind of use is told of after the use up to now', () => {
  const { told, subject } = news('both');
  const instance = server();
  subject.tell(context, instance, 'rescue_instance', 'start');
  subject.tell(context, instance, 'rescue_instance', 'end');
  expect(told.map(({ eventType }) => eventType)).toEqual([
    'compute.instance.exists',
    'instance.exists',
    'compute.instance.rescue.start',
    'instance.rescue.start',
    'compute.instance.rescue.end',
    'instance.rescue.end',
  ]);
  const [legacy, versioned] = told;
  const periodFields = ['audit_period_beginning', 'audit_period_ending'];
  expect(Object.keys(legacy?.payload ?? {}).sort()).toEqual([...LEGACY_FIELDS, ...periodFields].sort());
  expect(legacy?.payload.audit_period_beginning).toMatch(/^\d{4}-\d\d-\d\d 00:00:00$/);
  expect(versioned?.payload).toMatchObject({
    'nova_object.name': 'InstanceExistsPayload',
    'nova_object.version': '2.0',
  });
  const ofCreation = ['fault', 'instance_name', 'keypairs', 'tags', 'trusted_image_certificates'];
  const fields = CREATE_FIELDS.filter((field) => !ofCreation.includes(field));
  expect(Object.keys(dataOf(versioned?.payload)).sort()).toEqual([...fields, 'audit_period'].sort());
});

test('a legacy one has the fields of Nova, no more and no less', () => {
  const { told, subject } = news('unversioned');
  const instance = server();
  subject.tell(context, instance, 'stop_instance', 'start');
  expect(told).toMatchObject([
    {
      topics: ['notifications'],
      publisherId: 'compute.prebake',
      eventType: 'compute.instance.power_off.start',
      priority: 'INFO',
    },
  ]);
  const { payload } = told[0] ?? { payload: {} };
  expect(Object.keys(payload).sort()).toEqual(LEGACY_FIELDS);
  expect(payload).toMatchObject({
    instance_id: instance.uuid,
    image_ref_url: `http://glance:9292/images/${instance.imageRef}`,
    launched_at: '2026-01-02T03:04:05.000000',
    created_at: expect.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00$/) as string,
  });
});

test('a failure is told with its cause, in both formats', () => {
  const { told, subject } = news('both');
  const error = new ImageUnacceptable('it is no image');
  subject.tell(context, server(), 'build_and_run_instance', 'error', { error });
  expect(told.map(({ eventType, priority }) => [eventType, priority])).toEqual([
    ['compute.instance.create.error', 'ERROR'],
    ['instance.create.error', 'ERROR'],
  ]);
  expect(told[0]?.payload).toMatchObject({ exception: 'it is no image', code: 500 });
  expect(dataOf(dataOf(told[1]?.payload).fault)).toMatchObject({
    exception: 'ImageUnacceptable',
    exception_message: 'it is no image',
    module_name: 'nova.exception',
  });
});

test.each([
  ['set_admin_password', 'start'],
  ['pause_instance', 'error'],
] as const)('%s %s is not told of', (method, phase) => {
  const { told, subject } = news('both');
  subject.tell(context, server(), method, phase);
  expect(told).toEqual([]);
});

test('NICs that come and go are told of in versioned ones only', () => {
  const { told, subject } = news('both');
  subject.tell(context, server(), 'attach_interface', 'start');
  expect(told.map(({ eventType }) => eventType)).toEqual(['instance.interface_attach.start']);
});

test('without a driver nothing is told', () => {
  const { told, subject } = news('both', []);
  subject.tell(context, server(), 'stop_instance', 'start');
  expect(told).toEqual([]);
});
