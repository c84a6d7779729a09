/** Servers that hang or should be gone: who is helped, who is left alone. */
import pino from 'pino';
import { Housekeeping, type HousekeepingParts } from '../../../lib/compute/housekeeping';
import { InstanceLocks } from '../../../lib/compute/instance-locks';
import { InstanceRecords } from '../../../lib/compute/instance-records';
import { Conductor, Instance, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { ScriptedConductor } from '../../support/scripted-conductor';

const NOW = Date.parse('2026-01-01T01:00:00Z');
const LONG_AGO = '2026-01-01T00:00:00Z';
const JUST_NOW = '2026-01-01T00:59:59Z';

function server(fields: Readonly<Record<string, unknown>>): Instance {
  const { instance } = deserialise(argsOf(recordedRequest('build_and_run_instance'))) as Record<
    string,
    unknown
  >;
  if (!(instance instanceof Instance)) throw new Error('the recorded request has no instance');
  instance.update({ host: 'prebake', ...fields });
  instance.resetChanges();
  return instance;
}

function housekeeping(servers: readonly Instance[], options: Readonly<Record<string, unknown>> = {}) {
  const list = {
    'nova_object.name': 'InstanceList',
    'nova_object.namespace': 'nova',
    'nova_object.version': '2.6',
    'nova_object.data': { objects: servers.map((instance) => instance.toPrimitive()) },
  };
  const conductor = new ScriptedConductor({
    'InstanceList.get_by_filters': list,
    'InstanceList.get_by_host': list,
  });
  const done: string[] = [];
  const note =
    (what: string) =>
    (...args: unknown[]) => {
      done.push(`${what}${typeof args[2] === 'string' ? ` ${args[2]}` : ''}`);
      return Promise.resolve();
    };
  const locks = new InstanceLocks();
  const images: ReadonlySet<string>[] = [];
  const subject = new Housekeeping({
    config: {
      default: {
        instanceNameTemplate: 'instance-%08x',
        runningDeletedInstanceAction: 'reap',
        runningDeletedInstanceTimeout: 60,
        instanceBuildTimeout: 600,
        rebootTimeout: 600,
        rescueTimeout: 600,
        ...options,
      },
      imageCache: { removeUnusedOriginalMinimumAgeSeconds: 86_400 },
    },
    host: 'prebake',
    driver: {
      listInstanceUuids: () => Promise.resolve(servers.map(({ uuid }) => uuid)),
      destroy: note('destroy'),
      powerOff: note('power off'),
      removeUnusedImages: (inUse: ReadonlySet<string>) => {
        images.push(inUse);
        return Promise.resolve(0);
      },
    },
    records: new InstanceRecords(new Conductor(conductor, { timeoutMs: 1000 }), 'prebake'),
    networks: { deallocate: note('deallocate') },
    power: { reboot: note('reboot') },
    rescue: { unrescue: note('unrescue') },
    squirrel: {
      list: () => Promise.resolve([{ state: 'ok', key: 'k', manifest: { image: { id: 'of a µVM' } } }]),
    },
    locks,
    logger: pino({ level: 'silent' }),
  } as unknown as HousekeepingParts);
  const saved = () => conductor.writes('Instance.save', 'vm_state', 'task_state');
  return { subject, done, saved, locks, images, conductor };
}

describe('a server that was deleted and is still here', () => {
  test.each([
    ['reap', LONG_AGO, ['destroy', 'deallocate']],
    ['shutdown', LONG_AGO, ['power off']],
    ['log', LONG_AGO, []],
    ['reap', JUST_NOW, []],
  ])('with action %s, deleted at %s', async (action, deleted_at, expected) => {
    const { subject, done } = housekeeping([server({ deleted_at, deleted: true })], {
      runningDeletedInstanceAction: action,
    });
    await subject.endDeletedServers(NOW);
    expect(done).toEqual(expected);
  });

  test('is left to whoever works on it', async () => {
    const gone = server({ deleted_at: LONG_AGO, deleted: true });
    const { subject, done, locks } = housekeeping([gone]);
    await locks.run(gone.uuid, () => subject.endDeletedServers(NOW));
    expect(done).toEqual([]);
  });
});

describe('a build that takes too long', () => {
  const stuck = { vm_state: 'building', task_state: 'spawning', created_at: LONG_AGO };

  test('ends in error when nobody is at it', async () => {
    const { subject, saved, conductor } = housekeeping([server(stuck)]);
    await subject.failStuckBuilds(NOW);
    expect(saved()).toEqual([{ vm_state: 'error', task_state: null }]);
    expect(conductor.writes('InstanceFault.create', 'message')).toEqual([
      { message: 'the server was not built within 600 s' },
    ]);
  });

  test('is told to give up when somebody is', async () => {
    const instance = server(stuck);
    const { subject, saved, locks } = housekeeping([instance]);
    const reason = await locks.run(instance.uuid, async (signal) => {
      await subject.failStuckBuilds(NOW);
      return (signal.reason as Error).message;
    });
    expect(reason).toBe('the server was not built within 600 s');
    expect(saved()).toEqual([]);
  });

  test('has its time', async () => {
    const { subject, saved } = housekeeping([server({ ...stuck, created_at: JUST_NOW })]);
    await subject.failStuckBuilds(NOW);
    expect(saved()).toEqual([]);
  });
});

test('a reboot that was lost is done the hard way', async () => {
  const lost = { vm_state: 'active', task_state: 'rebooting', updated_at: LONG_AGO };
  const { subject, done, saved } = housekeeping([server(lost), server({ ...lost, updated_at: JUST_NOW })]);
  await subject.repeatStuckReboots(NOW);
  expect(done).toEqual(['reboot HARD']);
  expect(saved()).toEqual([{ task_state: 'rebooting_hard' }]);
});

test.each([
  [{ task_state: null, launched_at: LONG_AGO }, ['unrescue']],
  [{ task_state: null, launched_at: JUST_NOW }, []],
  [{ task_state: 'unrescuing', launched_at: LONG_AGO }, []],
])('a rescue that was forgotten is ended (%j)', async (fields, expected) => {
  const { subject, done, saved, conductor } = housekeeping([server({ vm_state: 'rescued', ...fields })]);
  await subject.endOldRescues(NOW);
  expect(done).toEqual(expected);
  expect(saved()).toEqual(expected.map(() => ({ task_state: 'unrescuing', expected: [null] })));
  expect(conductor.classCalls.includes('InstanceAction.action_start')).toBe(expected.length > 0);
});

test('images of servers and of µVMs are in use', async () => {
  const instance = server({});
  const { subject, images } = housekeeping([instance]);
  await subject.removeUnusedImages();
  expect([...(images[0] ?? [])]).toEqual(expect.arrayContaining([instance.imageRef, 'of a µVM']));
});
