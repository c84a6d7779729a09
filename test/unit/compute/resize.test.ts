/** What a resize and its ends leave in Nova's records and in Placement, in the good case and when it fails or is cut short. */
import pino from 'pino';
import { PowerState } from '../../../drivers/driver';
import { InstanceActions } from '../../../lib/compute/instance-actions';
import { InstanceLocks } from '../../../lib/compute/instance-locks';
import { InstanceRecords } from '../../../lib/compute/instance-records';
import { Resize } from '../../../lib/compute/resize';
import { ResizeEnd, type ResizeEndParts } from '../../../lib/compute/resize-end';
import { ResizeError } from '../../../lib/exceptions';
import { RequestContext } from '../../../lib/messaging';
import { Conductor, Flavor, Instance, Migration, createObject, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { ScriptedConductor } from '../../support/scripted-conductor';
import { noVtpm } from '../../support/vtpm';

const context = RequestContext.admin();
const logger = pino({ level: 'silent' });
const MIGRATION = 'a11c4f63-27f3-4d4e-8a2f-3a4ac0e7bf6c';

/** The recorded server: 1 vCPU, 64 MiB, 1 GiB. */
function server(fields: Readonly<Record<string, unknown>>): Instance {
  const { instance } = deserialise(argsOf(recordedRequest('build_and_run_instance'))) as Record<
    string,
    unknown
  >;
  if (!(instance instanceof Instance)) throw new Error('the recorded request has no instance');
  instance.update({ host: 'prebake', metadata: {}, security_groups: null, ...fields });
  instance.resetChanges();
  return instance;
}

function flavor(fields: Readonly<Record<string, unknown>> = {}): Flavor {
  const larger = { id: 77, flavorid: '77', name: 'larger', vcpus: 2, memory_mb: 512, root_gb: 4 };
  return createObject(Flavor, { ...larger, ephemeral_gb: 0, swap: 0, extra_specs: {}, ...fields });
}

function migration(status: string): Migration {
  const found = createObject(Migration, { id: 3, uuid: MIGRATION, instance_uuid: MIGRATION, status });
  found.resetChanges();
  return found;
}

function world(options: { readonly migrations?: readonly Migration[]; readonly fails?: string } = {}) {
  const conductor = new ScriptedConductor({
    'MigrationList.get_by_filters': {
      'nova_object.name': 'MigrationList',
      'nova_object.namespace': 'nova',
      'nova_object.version': '1.5',
      'nova_object.data': { objects: (options.migrations ?? []).map((found) => found.toPrimitive()) },
    },
  });
  const records = new InstanceRecords(new Conductor(conductor, { timeoutMs: 1000 }), 'prebake');
  const done: string[] = [];
  const note =
    (what: string) =>
    (...args: readonly unknown[]) => {
      const details = args.filter((arg) => typeof arg === 'string' || typeof arg === 'boolean');
      done.push([what, ...details].join(' '));
      return options.fails === what ? Promise.reject(new Error(`${what} failed`)) : Promise.resolve();
    };
  const shared = {
    actions: new InstanceActions({ records, locks: new InstanceLocks(), logger }),
    records,
    networkCache: { refresh: () => Promise.resolve([]) },
    power: { powerState: () => Promise.resolve(PowerState.RUNNING), powerOff: note('power off') },
    tracker: { nodeName: 'node', track: () => undefined, publish: () => Promise.resolve() },
    placement: { moveAllocations: note('move'), deleteAllocations: note('free') },
    scheduler: { instanceUpdated: () => Promise.resolve() },
    vtpm: noVtpm(records),
    conductor: { resizeInstance: note('elsewhere') },
    driver: {
      migrateDisk: note('set aside'),
      finishMigration: note('finish'),
      finishRevertMigration: note('put back'),
      confirmMigration: note('forget'),
    },
    logger,
    instanceNameTemplate: 'instance-%08x',
    options: { host: 'prebake', hostAddress: '127.0.0.1', instanceNameTemplate: 'instance-%08x' },
  };
  const end = new ResizeEnd(shared as unknown as ResizeEndParts);
  const resize = new Resize({ ...shared, end });
  const states = () => conductor.writes('Instance.save', 'vm_state', 'task_state', 'memory_mb');
  const statuses = () => conductor.writes('Migration.save', 'status').map(({ status }) => status);
  return { conductor, done, end, resize, states, statuses };
}

describe('a resize', () => {
  test('goes through the states of Nova and waits for its confirmation', async () => {
    const { resize, done, states, statuses, conductor } = world();
    const instance = server({ vm_state: 'active', task_state: 'resize_prep' });
    await resize.resize(context, instance, { migration: migration('accepted'), flavor: flavor() });
    expect(states()).toEqual([
      { expected: ['resize_prep'] },
      {},
      { task_state: 'resize_migrating', expected: ['resize_prep'] },
      { task_state: 'resize_migrated', expected: ['resize_migrating'] },
      { memory_mb: 512, task_state: 'resize_finish', expected: ['resize_migrated'] },
      { vm_state: 'resized', task_state: null, expected: ['resize_finish'] },
    ]);
    expect(statuses()).toEqual(['pre-migrating', 'migrating', 'post-migrating', 'finished']);
    expect(done).toEqual(['power off true', `set aside ${instance.uuid}`, 'finish true']);
    expect(instance.oldFlavor?.memoryMb).toBe(64);
    expect(conductor.objectCalls.some(({ changes }) => changes.includes('migration_context'))).toBe(true);
  });

  test('of a stopped server leaves it stopped', async () => {
    const { resize, done } = world();
    const instance = server({ vm_state: 'stopped', task_state: 'resize_prep' });
    await resize.resize(context, instance, { migration: migration('accepted'), flavor: flavor() });
    expect(done.at(-1)).toBe('finish false');
  });

  test('to a smaller disk is refused before anything happens', async () => {
    const { resize, done, states, statuses } = world();
    const instance = server({ vm_state: 'active', task_state: 'resize_prep' });
    const args = { migration: migration('accepted'), flavor: flavor({ root_gb: 0 }) };
    await expect(resize.resize(context, instance, args)).rejects.toBeInstanceOf(ResizeError);
    expect(done).toEqual([`move ${MIGRATION} ${instance.uuid}`]);
    expect(statuses().at(-1)).toBe('error');
    expect(states().at(-1)).toEqual({ task_state: null });
  });

  test('to the flavor it has is tried elsewhere, as often as the scheduler allows', async () => {
    const { resize, done, conductor } = world();
    const instance = server({ vm_state: 'active', task_state: 'resize_prep' });
    const same = { migration: migration('accepted'), flavor: instance.flavor };
    await resize.resize(context, instance, { ...same, filter_properties: { retry: { num_attempts: 1 } } });
    expect(done).toEqual([
      `move ${MIGRATION} ${instance.uuid}`,
      'elsewhere Unable to migrate instance (' + `${instance.uuid}) to current host (prebake).`,
    ]);
    expect(conductor.writes('InstanceFault.create', 'message')).toHaveLength(1);
    await expect(resize.resize(context, instance, same)).rejects.toThrow(/to current host/);
  });

  test('whose start fails is taken back, and the server is in error', async () => {
    const { resize, done, states, statuses } = world({ fails: 'finish' });
    const instance = server({ vm_state: 'active', task_state: 'resize_prep' });
    const args = { migration: migration('accepted'), flavor: flavor() };
    await expect(resize.resize(context, instance, args)).rejects.toThrow('finish failed');
    expect(done.slice(-2)).toEqual([`move ${MIGRATION} ${instance.uuid}`, 'put back true']);
    expect(statuses().at(-1)).toBe('error');
    expect(states().at(-1)).toEqual({ vm_state: 'error', task_state: null });
    expect(instance.flavor.memoryMb).toBe(64);
  });
});

describe('its end', () => {
  const resized = { vm_state: 'resized', old_flavor: null, new_flavor: null };

  test('can be the old flavor', async () => {
    const { end, done, states, statuses } = world();
    const instance = server({ ...resized, task_state: 'resize_reverting' });
    instance.update({ old_flavor: instance.flavor, flavor: flavor(), memory_mb: 512 });
    await end.revert(context, instance, migration('reverting'));
    expect(done).toEqual([`move ${MIGRATION} ${instance.uuid}`, 'put back true']);
    expect(statuses()).toEqual(['reverted']);
    expect(states()).toContainEqual({
      vm_state: 'active',
      task_state: null,
      expected: ['resize_reverting'],
    });
    expect(instance.memoryMb).toBe(64);
    expect(instance.oldFlavor).toBeNull();
  });

  test.each([
    ['resize_prep', 'active', ['move', 'put back true'], 'error'],
    ['resize_finish', 'active', ['move', 'put back true'], 'error'],
    ['resize_reverting', 'resized', ['move', 'put back true'], 'reverted'],
  ])('after a kill in %s is the old flavor', async (taskState, vmState, expected, status) => {
    const { end, done, states, statuses } = world({ migrations: [migration('reverting')] });
    const instance = server({ vm_state: vmState, task_state: taskState });
    expect(await end.recover(context, instance, logger)).toBe(true);
    expect(done.map((step) => step.replace(/^move .*/, 'move'))).toEqual(expected);
    expect(statuses()).toEqual([status]);
    expect(states()).toContainEqual(expect.objectContaining({ task_state: null }));
  });

  test('is left alone where nothing was cut short', async () => {
    const { end, done } = world();
    expect(await end.recover(context, server({ ...resized, task_state: null }), logger)).toBe(false);
    expect(await end.recover(context, server({ vm_state: 'active', task_state: null }), logger)).toBe(false);
    expect(done).toEqual([]);
  });

  test('is not a confirmation of what nobody waits for', async () => {
    const { end, done } = world();
    await end.confirm(context, server({ ...resized, task_state: null }), migration('reverted'));
    expect(done).toEqual([]);
  });
});
