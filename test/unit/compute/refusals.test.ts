/**
 * What is refused leaves a server as Nova leaves it: the caller gets Nova's exception, the user a fault and a failed entry in
 * the action log, and the server its task state back.
 */
import pino from 'pino';
import type { SpawnRequest } from '../../../drivers/driver';
import { InstanceActions } from '../../../lib/compute/instance-actions';
import { InstanceLocks } from '../../../lib/compute/instance-locks';
import { InstanceRecords } from '../../../lib/compute/instance-records';
import { Interfaces, type InterfacesParts } from '../../../lib/compute/interfaces';
import { Quiesce } from '../../../lib/compute/quiesce';
import { Rebuilder, type RebuilderParts } from '../../../lib/compute/rebuild';
import { UNSUPPORTED_METHODS, refusals } from '../../../lib/compute/unsupported';
import { hardwareOf, serialPortCount } from '../../../drivers/libvirt/hardware';
import { NovaException, QemuGuestAgentNotEnabled } from '../../../lib/exceptions';
import { RequestContext } from '../../../lib/messaging';
import { Conductor, Instance, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { ScriptedConductor } from '../../support/scripted-conductor';

const context = RequestContext.admin();
const logger = pino({ level: 'silent' });
const BUSY = 'a task of nova-api';

function server(): Instance {
  const { instance } = deserialise(argsOf(recordedRequest('build_and_run_instance'))) as Record<
    string,
    unknown
  >;
  if (!(instance instanceof Instance)) throw new Error('the recorded request has no instance');
  instance.update({
    host: 'prebake',
    metadata: {},
    security_groups: null,
    vm_state: 'active',
    task_state: BUSY,
  });
  instance.resetChanges();
  return instance;
}

function surroundings() {
  const conductor = new ScriptedConductor();
  const records = new InstanceRecords(new Conductor(conductor, { timeoutMs: 1000 }), 'prebake');
  const locks = new InstanceLocks();
  return { conductor, records, locks, logger, actions: new InstanceActions({ records, locks, logger }) };
}

type Surroundings = ReturnType<typeof surroundings>;

/** One request, and how it is refused. */
interface Refusal {
  readonly ask: (parts: Surroundings, instance: Instance) => Promise<unknown> | undefined;
  readonly exception: string;
  readonly code: number;
  /** What is written besides the task state. */
  readonly vmState?: string;
}

const withServer = UNSUPPORTED_METHODS.filter((method) => !method.startsWith('check_can_live_migrate'));
const cases: readonly (readonly [string, Refusal])[] = [
  ...withServer.map(
    (method) =>
      [
        method,
        {
          ask: (parts: Surroundings, instance: Instance) =>
            refusals(parts).get(method)?.(context, { instance }, { kind: 'call', method, version: '6.0' }),
          exception: 'NotImplementedError',
          code: 500,
        },
      ] as const,
  ),
  [
    "a rebuild of another host's server",
    {
      ask: (parts, instance) => rebuild(parts, instance, { recreate: true }),
      exception: 'NotImplementedError',
      code: 500,
    },
  ],
  [
    'a rebuild that is to keep the ephemeral disk',
    {
      ask: (parts, instance) => rebuild(parts, instance, { preserve_ephemeral: true }),
      exception: 'PreserveEphemeralNotSupported',
      code: 500,
    },
  ],
  [
    'the detachment of a port that is not attached',
    {
      ask: (parts, instance) => {
        const found = { get: () => Promise.resolve(instance) };
        const subject = new Interfaces({ ...parts, records: found } as unknown as InterfacesParts);
        return subject.detach(context, instance, 'no port of its');
      },
      exception: 'PortNotFound',
      code: 404,
    },
  ],
];

function rebuild(
  parts: Surroundings,
  instance: Instance,
  args: Readonly<Record<string, unknown>>,
): Promise<void> {
  const subject = new Rebuilder(parts as unknown as RebuilderParts);
  return subject.rebuild(context, instance, { image_ref: instance.imageRef, ...args });
}

test.each(cases)('%s', async (_name, { ask, exception, code }) => {
  const parts = surroundings();
  const refused: unknown = await ask(parts, server())?.catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(NovaException);
  expect((refused as NovaException).name).toBe(exception);
  const { conductor } = parts;
  expect(conductor.writes('InstanceFault.create', 'code', 'instance_uuid')).toMatchObject([{ code }]);
  expect(conductor.writes('Instance.save', 'task_state', 'vm_state')).toEqual([{ task_state: null }]);
  expect(conductor.classCalls).toEqual([
    'InstanceActionEvent.event_start',
    'InstanceActionEvent.event_finish_with_failure',
  ]);
});

describe('hardware that a server cannot have', () => {
  type Asked = Parameters<typeof hardwareOf>[0];
  const plain = { image: { id: 'image', properties: {} }, flavor: { extraSpecs: {} } };
  const asked = (
    properties: Readonly<Record<string, string>>,
    extraSpecs: Readonly<Record<string, string>>,
  ): Asked =>
    ({
      image: { ...plain.image, properties },
      flavor: { extraSpecs },
    }) as unknown as SpawnRequest['instance'];

  test.each<[string, Readonly<Record<string, string>>, Readonly<Record<string, string>>, string]>([
    ['a disk bus', { hw_disk_bus: 'fdc' }, {}, 'ImageUnacceptable'],
    ['a NIC', { hw_vif_model: 'ne2000' }, {}, 'ImageUnacceptable'],
    ['a firmware', { hw_firmware_type: 'coreboot' }, {}, 'ImageUnacceptable'],
    ['a video card', { hw_video_model: 'voodoo' }, {}, 'ImageUnacceptable'],
    ['a machine', { hw_machine_type: 'pc,accel=none' }, {}, 'ImageUnacceptable'],
    ['Secure Boot by its image', { os_secure_boot: 'required' }, {}, 'SecureBootNotSupported'],
    ['Secure Boot by its flavor', {}, { 'os:secure_boot': 'required' }, 'SecureBootNotSupported'],
  ])('%s', (_name, properties, extraSpecs, exception) => {
    const subject = asked(properties, extraSpecs);
    expect(() => hardwareOf(subject)).toThrow(expect.objectContaining({ name: exception }) as Error);
  });

  test.each<[string, string | undefined, string]>([
    ['five', undefined, 'ImageSerialPortNumberInvalid'],
    ['4', '1', 'ImageSerialPortNumberExceedFlavorValue'],
  ])('%s serial ports', (ofImage, ofFlavor, exception) => {
    const subject = asked(
      { hw_serial_port_count: ofImage },
      ofFlavor === undefined ? {} : { 'hw:serial_port_count': ofFlavor },
    );
    expect(() => serialPortCount(subject)).toThrow(expect.objectContaining({ name: exception }) as Error);
  });
});

test('file systems are not brought to rest without an agent, and the server has no part in it', async () => {
  const parts = surroundings();
  const refuse = () => Promise.reject(new QemuGuestAgentNotEnabled('QEMU guest agent is not enabled'));
  const quiesce = new Quiesce({ quiesce: refuse, unquiesce: refuse }, parts.records, 'instance-%08x');
  await expect(quiesce.quiesce(context, server())).rejects.toThrow(QemuGuestAgentNotEnabled);
  await expect(quiesce.unquiesce(context, server())).rejects.toThrow(QemuGuestAgentNotEnabled);
  expect(parts.conductor.objectCalls).toEqual([]);
});
