/** What suspends, soft deletes, NICs and passwords leave in Nova's records, in the good case and in the bad ones. */
import { constants, generateKeyPairSync, privateDecrypt } from 'node:crypto';
import pino from 'pino';
import { PowerState } from '../../../drivers/driver';
import { InstanceActions } from '../../../lib/compute/instance-actions';
import { InstanceLocks } from '../../../lib/compute/instance-locks';
import { InstanceRecords } from '../../../lib/compute/instance-records';
import { sealedPassword } from '../../../lib/compute/password-seal';
import { SoftDelete, type SoftDeleteParts } from '../../../lib/compute/soft-delete';
import { Suspend, type SuspendParts } from '../../../lib/compute/suspend';
import { NotImplementedError } from '../../../lib/exceptions';
import { RequestContext } from '../../../lib/messaging';
import { Conductor, Instance, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { ScriptedConductor } from '../../support/scripted-conductor';
import { noVtpm } from '../../support/vtpm';

const context = RequestContext.admin();
const logger = pino({ level: 'silent' });
const nothing = () => Promise.resolve();

/** The recorded server in another state, as the database would give it. */
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

function surroundings(powerState: PowerState, answers: Readonly<Record<string, unknown>> = {}) {
  const conductor = new ScriptedConductor(answers);
  const records = new InstanceRecords(new Conductor(conductor, { timeoutMs: 1000 }), 'prebake');
  const locks = new InstanceLocks();
  return {
    conductor,
    locks,
    records,
    logger,
    actions: new InstanceActions({ records, locks, logger }),
    networkCache: { refresh: () => Promise.resolve([]) },
    power: { powerState: () => Promise.resolve(powerState) },
    vtpm: noVtpm(records),
    instanceNameTemplate: 'instance-%08x',
  };
}

describe('suspend', () => {
  test('remembers what the server was, and resume makes it that again', async () => {
    const parts = surroundings(PowerState.SHUTDOWN);
    const suspend = new Suspend({
      ...parts,
      driver: { suspend: nothing, resume: nothing },
    } as unknown as SuspendParts);
    const instance = server({ vm_state: 'rescued', task_state: 'suspending' });
    await suspend.suspend(context, instance);
    instance.set('task_state', 'resuming');
    await suspend.resume(context, instance);
    expect(parts.conductor.writes('Instance.save', 'vm_state', 'task_state')).toEqual([
      { vm_state: 'suspended', task_state: null, expected: ['suspending'] },
      { vm_state: 'rescued', task_state: null, expected: ['resuming'] },
    ]);
    expect(instance.systemMetadata).not.toHaveProperty('old_vm_state');
  });

  test.each([
    [new Error('disk full'), { vm_state: 'error', task_state: null }],
    [new NotImplementedError('no'), { task_state: null }],
  ])('leaves the server as Nova does when the driver fails with %s', async (error, saved) => {
    const parts = surroundings(PowerState.RUNNING);
    const driver = { suspend: () => Promise.reject(error) };
    const suspend = new Suspend({ ...parts, driver } as unknown as SuspendParts);
    const instance = server({ vm_state: 'active', task_state: 'suspending' });
    await expect(suspend.suspend(context, instance)).rejects.toBe(error);
    expect(parts.conductor.writes('Instance.save', 'vm_state', 'task_state')).toEqual([saved]);
    expect(parts.conductor.writes('InstanceFault.create', 'message')).toEqual([{ message: error.message }]);
  });
});

describe('soft delete', () => {
  function softDelete(powerState: PowerState, servers: readonly Instance[] = []) {
    const list = {
      'nova_object.name': 'InstanceList',
      'nova_object.namespace': 'nova',
      'nova_object.version': '2.6',
      'nova_object.data': { objects: servers.map((instance) => instance.toPrimitive()) },
    };
    const parts = surroundings(powerState, { 'InstanceList.get_by_host': list });
    const terminated: (string | null)[] = [];
    const subject = new SoftDelete({
      ...parts,
      driver: { powerOff: nothing, powerOn: nothing },
      terminator: {
        terminate: (_context: RequestContext, { displayName }: Instance) => {
          terminated.push(displayName);
          return Promise.resolve();
        },
      },
      options: { instanceNameTemplate: 'instance-%08x', reclaimAfterMs: 60_000 },
    } as unknown as SoftDeleteParts);
    return { ...parts, subject, terminated };
  }

  test('switches the server off, and restore switches it on', async () => {
    const { subject, conductor } = softDelete(PowerState.SHUTDOWN);
    const instance = server({ vm_state: 'active', task_state: 'soft-deleting' });
    await subject.delete(context, instance);
    instance.set('task_state', 'restoring');
    await subject.restore(context, instance);
    expect(conductor.writes('Instance.save', 'vm_state', 'task_state')).toEqual([
      { vm_state: 'soft-delete', task_state: null, expected: ['soft-deleting'] },
      { vm_state: 'active', task_state: null, expected: ['restoring'] },
    ]);
  });

  test('reclaims only what was deleted long enough ago and is left alone', async () => {
    const old = '2026-01-01T00:00:00Z';
    const deleted = { vm_state: 'soft-delete', task_state: null, deleted_at: old };
    const { subject, terminated } = softDelete(PowerState.SHUTDOWN, [
      server({ ...deleted, display_name: 'old' }),
      server({ ...deleted, display_name: 'being restored', task_state: 'restoring' }),
      server({ ...deleted, display_name: 'new', deleted_at: '2026-01-01T00:00:30Z' }),
      server({ ...deleted, display_name: 'alive', vm_state: 'active' }),
    ]);
    await subject.reclaim(Date.parse(old) + 60_000);
    expect(terminated).toEqual(['old']);
  });
});

describe('a password kept for the owner of the key', () => {
  test('can be read with the private key only, from four values of Nova', () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const { n, e } = publicKey.export({ format: 'jwk' });
    const field = (data: Buffer): Buffer => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(data.length);
      return Buffer.concat([length, data]);
    };
    const positive = (text: string | undefined): Buffer => {
      const value = Buffer.from(text ?? '', 'base64url');
      return value.readUInt8(0) > 127 ? Buffer.concat([Buffer.of(0), value]) : value;
    };
    const data = Buffer.concat([field(Buffer.from('ssh-rsa')), field(positive(e)), field(positive(n))]);
    const sealed = sealedPassword(`ssh-rsa ${data.toString('base64')} me@here`, 'sécret');
    expect(Object.keys(sealed ?? {})).toEqual(['password_0', 'password_1', 'password_2', 'password_3']);
    const text = Object.values(sealed ?? {}).join('');
    const opened = privateDecrypt(
      { key: privateKey, padding: constants.RSA_NO_PADDING },
      Buffer.from(text, 'base64'),
    );
    // 0, 2, filling without zeros, 0, text (PKCS #1)
    expect(opened.subarray(0, 2)).toEqual(Buffer.of(0, 2));
    expect(opened.subarray(opened.indexOf(0, 2) + 1).toString()).toBe('sécret');
  });

  test.each([null, '', 'ssh-ed25519 AAAA me', 'ssh-rsa'])('is not kept for the key %p', (key) => {
    expect(sealedPassword(key, 'secret')).toBeNull();
  });
});
