/** What becomes of servers that a stopped service left in the middle of something. */
import pino from 'pino';
import { PowerState } from '../../../drivers/driver';
import { InstanceRecords } from '../../../lib/compute/instance-records';
import { InterruptedOperations } from '../../../lib/compute/interrupted';
import { Recovery } from '../../../lib/compute/recovery';
import { RequestContext } from '../../../lib/messaging';
import { Conductor, Instance, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { ScriptedConductor } from '../../support/scripted-conductor';
import { noVtpm } from '../../support/vtpm';

/** The recorded server in another state, as the database would give it. */
function server(vmState: string, taskState: string | null): Instance {
  const { instance } = deserialise(argsOf(recordedRequest('build_and_run_instance'))) as Record<
    string,
    unknown
  >;
  if (!(instance instanceof Instance)) throw new Error('the recorded request has no instance');
  instance.update({ vm_state: vmState, task_state: taskState, host: 'prebake' });
  instance.resetChanges();
  return instance;
}

async function recovered(vmState: string, taskState: string | null, powerState: PowerState) {
  const list = {
    'nova_object.name': 'InstanceList',
    'nova_object.namespace': 'nova',
    'nova_object.version': '2.6',
    'nova_object.data': { objects: [server(vmState, taskState).toPrimitive()] },
  };
  const conductor = new ScriptedConductor({ 'InstanceList.get_by_host': list });
  const done: string[] = [];
  const note = (what: string) => () => {
    done.push(what);
    return Promise.resolve();
  };
  const records = new InstanceRecords(new Conductor(conductor, { timeoutMs: 1000 }), 'prebake');
  const recovery = new Recovery({
    driver: { destroy: note('destroy') },
    records,
    interrupted: new InterruptedOperations({
      driver: { abandonSnapshot: note('snapshot abandoned') },
      records,
      rescue: { unrescue: note('unrescue') },
      resizeEnd: { recover: () => Promise.resolve(false) },
      shelve: { recover: () => Promise.resolve(false) },
      unshelve: { putBack: note('put back') },
      snapshots: { deleteUnfinished: note('images deleted') },
    }),
    networks: { deallocate: note('ports deleted') },
    power: {
      stop: note('stop'),
      start: note('start'),
      reboot: (_context, _instance, type) => note(`reboot ${String(type)}`)(),
      unpause: note('unpause'),
      powerState: () => Promise.resolve(powerState),
    },
    suspend: { suspend: note('suspend'), resume: note('resume') },
    softDelete: { delete: note('soft delete'), restore: note('restore') },
    terminator: { terminate: note('delete') },
    vtpm: noVtpm(records),
    logger: pino({ level: 'silent' }),
    options: { instanceNameTemplate: 'instance-%08x', resumeGuests: false },
  });
  await recovery.run(RequestContext.admin());
  const saved = conductor.writes('Instance.save', 'vm_state', 'task_state').at(-1) ?? null;
  const faults = conductor.writes('InstanceFault.create', 'message');
  return { done, saved, faults };
}

test.each<[string, string | null, PowerState, string[], object | null]>([
  // A delete is done again, whatever else was going on.
  ['active', 'deleting', PowerState.RUNNING, ['delete'], null],
  ['error', 'deleting', PowerState.NOSTATE, ['delete'], null],
  // Nothing was going on.
  ['active', null, PowerState.RUNNING, [], null],
  ['error', null, PowerState.NOSTATE, [], null],
  ['stopped', null, PowerState.SHUTDOWN, [], null],
  // Power operations are done again or recognised as done.
  ['active', 'powering-off', PowerState.RUNNING, ['stop'], null],
  ['stopped', 'powering-on', PowerState.SHUTDOWN, ['start'], null],
  ['paused', 'unpausing', PowerState.PAUSED, ['unpause'], null],
  ['active', 'suspending', PowerState.RUNNING, ['suspend'], null],
  ['suspended', 'resuming', PowerState.SHUTDOWN, ['resume'], null],
  ['rescued', 'unrescuing', PowerState.SHUTDOWN, ['unrescue'], null],
  ['active', 'soft-deleting', PowerState.RUNNING, ['soft delete'], null],
  ['soft-delete', 'restoring', PowerState.SHUTDOWN, ['restore'], null],
  // An image that is not whole is of no use.
  [
    'active',
    'image_snapshot',
    PowerState.RUNNING,
    ['snapshot abandoned', 'images deleted'],
    { task_state: null },
  ],
  [
    'stopped',
    'image_uploading',
    PowerState.SHUTDOWN,
    ['snapshot abandoned', 'images deleted'],
    { task_state: null },
  ],
  // What was being taken from the shelf is on it.
  ['shelved_offloaded', 'spawning', PowerState.RUNNING, ['put back'], { task_state: null }],
  ['active', 'pausing', PowerState.PAUSED, [], { vm_state: 'paused', task_state: null }],
  ['active', 'pausing', PowerState.RUNNING, [], { task_state: null }],
  ['active', 'reboot_started', PowerState.RUNNING, [], { task_state: null }],
  [
    'active',
    'reboot_started_hard',
    PowerState.SHUTDOWN,
    ['reboot HARD'],
    { task_state: 'reboot_pending_hard' },
  ],
])('%s/%s with power state %i', async (vmState, taskState, powerState, done, saved) => {
  const found = await recovered(vmState, taskState, powerState);
  expect(found.done).toEqual(done);
  expect(found.saved).toEqual(saved);
  expect(found.faults).toEqual([]);
});

test.each(['rebuild_spawning', 'rescuing'])(
  '%s cut short leaves the server in error, and its user is told',
  async (taskState) => {
    const found = await recovered('active', taskState, PowerState.NOSTATE);
    expect(found.done).toEqual([]);
    expect(found.saved).toEqual({ vm_state: 'error', task_state: null });
    expect(found.faults).toEqual([{ message: expect.stringMatching(/restarted while/) as string }]);
  },
);

test.each([
  ['building', null],
  ['building', 'networking'],
  ['building', 'spawning'],
])('a build cut short (%s/%s) is taken back, and its user told', async (vmState, taskState) => {
  const found = await recovered(vmState, taskState, PowerState.RUNNING);
  expect(found.done).toEqual(['destroy', 'ports deleted']);
  expect(found.saved).toMatchObject({ vm_state: 'error' });
  expect(found.faults).toEqual([{ message: expect.stringMatching(/restarted while/) as string }]);
});
