/** A build from nova-conductor's own recorded request: what is written to the database, in which order, and what is undone. */
import pino from 'pino';
import type { SpawnOutcome, SpawnRequest } from '../../../drivers/driver';
import { Admission } from '../../../lib/compute/admission';
import { DeletedDuringBuild } from '../../../lib/compute/build-failure';
import { Builder } from '../../../lib/compute/build';
import type { BuilderParts } from '../../../lib/compute/build-attempt';
import { ExternalEvents } from '../../../lib/compute/external-events';
import { InstanceLocks } from '../../../lib/compute/instance-locks';
import { InstanceRecords } from '../../../lib/compute/instance-records';
import { HypervisorUnavailable, ImageUnacceptable, InstanceNotFound } from '../../../lib/exceptions';
import { RemoteError, RequestContext } from '../../../lib/messaging';
import { Conductor, Instance, type NetworkInfo, deserialise, networkInfoSchema } from '../../../lib/objects';
import { BootRecorder, Metrics } from '../../../lib/sidecar';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { type ObjectCall, ScriptedConductor } from '../../support/scripted-conductor';
import { noVtpm } from '../../support/vtpm';

const PORT = 'fc44e9ab-301c-432a-bf1d-f2a889ab3d0e';
const NETWORK = networkInfoSchema.parse([
  {
    id: PORT,
    address: 'fa:16:3e:a2:4b:b4',
    network: { id: 'net', bridge: 'brqnet', subnets: [], meta: {} },
    type: 'bridge',
    devname: 'tapfc44e9ab-30',
    active: false,
    preserve_on_delete: false,
  },
]);

interface World {
  readonly builder: Builder;
  readonly conductor: ScriptedConductor;
  readonly boots: BootRecorder;
  readonly events: ExternalEvents;
  readonly locks: InstanceLocks;
  /** What was done besides the database, in order. */
  readonly done: string[];
}

function world(
  spawn: (request: SpawnRequest) => Promise<SpawnOutcome>,
  options: { readonly refuse?: (call: ObjectCall) => void; readonly answers?: Record<string, unknown> } = {},
): World {
  const conductor = new ScriptedConductor(options.answers ?? {}, options.refuse);
  const records = new InstanceRecords(new Conductor(conductor, { timeoutMs: 1000 }), 'prebake');
  const events = new ExternalEvents();
  const locks = new InstanceLocks();
  const boots = new BootRecorder(new Metrics());
  const done: string[] = [];
  const note =
    <T>(what: string, result: T) =>
    () => {
      done.push(what);
      return result;
    };
  const parts: BuilderParts = {
    driver: { spawn, destroy: note('destroy', Promise.resolve()) },
    templates: { find: () => Promise.resolve({ none: 'no µVM' }), wanted: note('bake wanted', undefined) },
    squirrel: { quarantine: note('quarantine', Promise.resolve()) },
    records,
    tracker: {
      nodeName: 'node',
      claim: () => undefined,
      track: () => undefined,
      release: note('claim released', undefined),
      publish: () => Promise.resolve(),
      buildSucceeded: note('counted as succeeded', undefined),
      buildFailed: note('counted as failed', undefined),
    },
    networks: {
      allocate: async ({ ours }) => {
        await ours;
        return NETWORK;
      },
      deallocate: note('ports deleted', Promise.resolve()),
    },
    placement: { deleteAllocations: note('allocations deleted', Promise.resolve(true)) },
    conductor: { buildInstances: note('handed on', Promise.resolve()) },
    scheduler: { instanceUpdated: () => Promise.resolve() },
    vtpm: noVtpm(records),
    events,
    news: { tell: () => undefined },
    locks,
    boots,
    logger: pino({ level: 'silent' }),
    options: {
      host: 'prebake',
      instanceNameTemplate: 'instance-%08x',
      forceConfigDrive: false,
      vifPlugging: { timeoutMs: 60_000, fatal: true },
    },
  };
  const limits = { builds: 10, guests: 1, guestBytes: 0, availableBytes: () => 0 };
  const builder = new Builder(parts, new Admission(limits));
  return { builder, conductor, boots, events, locks, done };
}

/** The recorded request, with other arguments where a test wants them. */
function request(overrides: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return { ...(deserialise(argsOf(recordedRequest('build_and_run_instance'))) as object), ...overrides };
}

function instanceOf(args: Readonly<Record<string, unknown>>): Instance {
  if (args.instance instanceof Instance) return args.instance;
  throw new Error('the recorded request has no instance');
}

/** A driver that boots cold once the ports are wired, and says so to Neutron's listener itself. */
function coldDriver(world: () => World) {
  return async (spawn: SpawnRequest): Promise<SpawnOutcome> => {
    const network: NetworkInfo = await spawn.network;
    const identity = await spawn.identity;
    expect(identity.uuid).toBe(spawn.instance.uuid);
    const plugged = spawn.vifsPlugged(network);
    expect(world().events.deliver(spawn.instance.uuid, 'network-vif-plugged', PORT, 'completed')).toBe(true);
    await plugged;
    return { how: 'cold', why: 'no µVM' };
  };
}

const SAVED = ['vm_state', 'task_state', 'host', 'node', 'power_state'] as const;

test("writes Nova's states in order and ends active", async () => {
  const w: World = world(coldDriver(() => w));
  await w.builder.buildAndRunInstance(RequestContext.admin(), request());
  expect(w.conductor.writes('Instance.save', ...SAVED)).toEqual([
    { task_state: null, expected: ['scheduling', null] },
    { host: 'prebake', node: 'node' },
    { task_state: 'networking', expected: [null] },
    { task_state: 'block_device_mapping' },
    { task_state: 'spawning', expected: ['block_device_mapping'] },
    { vm_state: 'active', task_state: null, power_state: 1, expected: ['spawning'] },
  ]);
  expect(w.conductor.writes('VirtualInterface.create', 'address', 'uuid')).toEqual([
    { address: `fa:16:3e:a2:4b:b4/${PORT}`, uuid: PORT },
  ]);
  expect(w.conductor.classCalls).toEqual([
    'InstanceActionEvent.event_start',
    'InstanceActionEvent.event_finish_with_failure',
  ]);
  expect(w.done).toEqual(['bake wanted', 'counted as succeeded']);
  expect(w.boots.recent()[0]).toMatchObject({ how: 'cold', why: 'no µVM', outcome: 'active' });
});

test('leaves a server that would fail everywhere in error, with the reason, and takes all back', async () => {
  const w = world(() => Promise.reject(new ImageUnacceptable('it is no disk image')));
  const args = request();
  await w.builder.buildAndRunInstance(RequestContext.admin(), args);
  expect(w.conductor.writes('InstanceFault.create', 'message', 'host', 'code')).toEqual([
    { message: 'it is no disk image', host: 'prebake', code: 500 },
  ]);
  expect(w.conductor.writes('Instance.save', 'vm_state').at(-1)).toEqual({ vm_state: 'error' });
  expect(instanceOf(args).host).toBeNull();
  expect(w.done).toEqual(
    expect.arrayContaining(['claim released', 'ports deleted', 'counted as failed', 'allocations deleted']),
  );
  expect(w.done).not.toContain('handed on');
  expect(instanceOf(args).taskState).toBeNull();
});

test('hands a build that failed here on, while the scheduler knows of other hosts', async () => {
  const w = world(() => Promise.reject(new HypervisorUnavailable('libvirtd is away')));
  const args = request({ host_list: [{}] });
  await w.builder.buildAndRunInstance(RequestContext.admin(), args);
  expect(w.done).toEqual(expect.arrayContaining(['ports deleted', 'allocations deleted', 'handed on']));
  expect(w.conductor.writes('Instance.save', 'task_state').at(-1)).toEqual({ task_state: 'scheduling' });
  expect(instanceOf(args).host).toBeNull();
  expect(w.conductor.writes('InstanceFault.create')).toEqual([]);
});

test('says why where no other host is left', async () => {
  const w = world(() => Promise.reject(new HypervisorUnavailable('libvirtd is away')));
  await w.builder.buildAndRunInstance(RequestContext.admin(), request({ host_list: [] }));
  expect(w.done).not.toContain('handed on');
  expect(w.conductor.writes('InstanceFault.create', 'message')).toEqual([{ message: 'libvirtd is away' }]);
});

test('does not touch a server that was deleted before it began', async () => {
  const gone = new RemoteError({
    remoteClass: 'UnexpectedDeletingTaskStateError',
    remoteModule: 'nova.exception_Remote',
    message: 'deleting',
    args: [],
    kwargs: {},
    traceback: [],
  });
  const refuse = (call: ObjectCall): void => {
    if (call.method === 'Instance.save') throw gone;
  };
  const w = world(
    (spawn) =>
      new Promise((_resolve, reject) => {
        spawn.signal.addEventListener('abort', () => reject(new Error('aborted')));
      }),
    { refuse },
  );
  await w.builder.buildAndRunInstance(RequestContext.admin(), request());
  expect(w.conductor.writes('Instance.save', 'vm_state')).toHaveLength(1);
  expect(w.conductor.writes('InstanceFault.create')).toEqual([]);
  expect(w.done).not.toContain('counted as failed');
});

test('gives up at once when the server is deleted, and frees its ports', async () => {
  const args = request();
  const w: World = world(
    (spawn) =>
      new Promise((_resolve, reject) => {
        spawn.signal.addEventListener('abort', () => reject(new Error('aborted')));
        void spawn.network.then(() => w.locks.abort(instanceOf(args).uuid, new DeletedDuringBuild()));
      }),
  );
  await w.builder.buildAndRunInstance(RequestContext.admin(), args);
  expect(w.done).toEqual(expect.arrayContaining(['ports deleted', 'claim released']));
  expect(w.conductor.writes('InstanceFault.create')).toEqual([]);
});

test('refuses a server that boots from a volume', async () => {
  const args = request();
  const mapping = (
    args.block_device_mapping as { get: (field: string) => { set: (f: string, v: string) => void }[] }
  ).get('objects')[0];
  mapping?.set('destination_type', 'volume');
  const w: World = world(coldDriver(() => w));
  await w.builder.buildAndRunInstance(RequestContext.admin(), args);
  expect(w.conductor.writes('InstanceFault.create', 'message')).toEqual([
    { message: expect.stringMatching(/volumes/) as string },
  ]);
});

test('a build that failed, and a guest that is ready, make room for the next', async () => {
  const readies: (() => void)[] = [];
  const w = world(async (spawn) => {
    await spawn.network;
    if (readies.length === 0) throw new ImageUnacceptable('it is no disk image');
    return {
      how: 'uvm',
      ready: new Promise((resolve) =>
        readies.push(() => resolve({ vcpus: 1, memoryMb: 512, rootBytes: 0, stepsMs: {} })),
      ),
    };
  });
  await w.builder.buildAndRunInstance(RequestContext.admin(), request());
  readies.push(() => undefined);
  await w.builder.buildAndRunInstance(RequestContext.admin(), request());
  const third = w.builder.buildAndRunInstance(RequestContext.admin(), request());
  await new Promise(setImmediate);
  expect(readies).toHaveLength(2);
  readies[1]?.();
  await third;
  expect(readies).toHaveLength(3);
});

describe('a clone that does not become ready', () => {
  const clone =
    (error: Error) =>
    async (spawn: SpawnRequest): Promise<SpawnOutcome> => {
      await spawn.network;
      if ('none' in spawn.template && /did not become ready/.test(spawn.template.none)) {
        return { how: 'cold', why: spawn.template.none };
      }
      return { how: 'uvm', ready: Promise.reject(error) };
    };

  async function ended(w: World): Promise<void> {
    while (w.boots.recent()[0]?.outcome !== 'failed') await new Promise(setImmediate);
  }

  it('is replaced by a cold boot, and its µVM is not offered again', async () => {
    const args = request();
    // The database's own copy of it: active by then.
    instanceOf(args).update({ vm_state: 'active', task_state: null });
    const w = world(clone(new Error('the gate is silent')), {
      answers: { 'Instance.get_by_uuid': instanceOf(args).toPrimitive() },
    });
    await w.builder.buildAndRunInstance(RequestContext.admin(), request());
    await ended(w);
    expect(w.done).toEqual(expect.arrayContaining(['quarantine', 'destroy']));
    expect(w.boots.recent()[0]?.error).toMatch(/booted cold instead/);
  });

  it('is left alone when it was stopped or deleted on purpose', async () => {
    const w = world(clone(new InstanceNotFound('ended')));
    await w.builder.buildAndRunInstance(RequestContext.admin(), request());
    await ended(w);
    expect(w.done).not.toContain('quarantine');
    expect(w.done).not.toContain('destroy');
  });
});
