/** Addresses that servers get and lose: what Neutron is told, and what their users when it cannot be. */
import pino from 'pino';
import { FixedIps, type FixedIpsParts } from '../../../lib/compute/fixed-ips';
import { InstanceActions } from '../../../lib/compute/instance-actions';
import { InstanceLocks } from '../../../lib/compute/instance-locks';
import { InstanceRecords } from '../../../lib/compute/instance-records';
import { FixedIpNotFoundForInstance, NetworkNotFoundForInstance } from '../../../lib/exceptions';
import { RequestContext } from '../../../lib/messaging';
import { Conductor, Instance, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { ScriptedConductor } from '../../support/scripted-conductor';

const context = RequestContext.admin();
const PORT = { id: 'port', fixed_ips: [{ subnet_id: 'one', ip_address: '10.0.0.5' }] };

function server(): Instance {
  const { instance } = deserialise(argsOf(recordedRequest('build_and_run_instance'))) as Record<
    string,
    unknown
  >;
  if (!(instance instanceof Instance)) throw new Error('the recorded request has no instance');
  instance.update({ host: 'prebake', metadata: {}, security_groups: null });
  instance.resetChanges();
  return instance;
}

function world(full: readonly string[] = []) {
  const conductor = new ScriptedConductor();
  const records = new InstanceRecords(new Conductor(conductor, { timeoutMs: 1000 }), 'prebake');
  const told: unknown[] = [];
  const parts = {
    neutron: {
      listSubnets: () => Promise.resolve([{ id: 'one' }, { id: 'two' }]),
      listPorts: () => Promise.resolve([PORT]),
      updatePort: (_id: string, { fixed_ips }: { fixed_ips: { subnet_id: string }[] }) => {
        const wanted = fixed_ips.map(({ subnet_id }) => subnet_id);
        if (wanted.some((subnet, index) => index > 0 && full.includes(subnet)))
          return Promise.reject(new Error('No more IP addresses available'));
        told.push(fixed_ips);
        return Promise.resolve(PORT);
      },
    },
    actions: new InstanceActions({ records, locks: new InstanceLocks(), logger: pino({ level: 'silent' }) }),
    records,
    networkCache: { refresh: () => Promise.resolve([]) },
  };
  return { conductor, told, fixedIps: new FixedIps(parts as unknown as FixedIpsParts) };
}

test('a server gets an address of the first subnet that has one, beside those it has', async () => {
  const { fixedIps, told, conductor } = world(['one']);
  await fixedIps.add(context, server(), 'network');
  expect(told).toEqual([[...PORT.fixed_ips, { subnet_id: 'two' }]]);
  expect(conductor.writes('Instance.save', 'updated_at')).toEqual([
    { updated_at: expect.any(String) as string },
  ]);
});

test('where no subnet has one, the user is told', async () => {
  const { fixedIps, conductor } = world(['one', 'two']);
  await expect(fixedIps.add(context, server(), 'network')).rejects.toBeInstanceOf(NetworkNotFoundForInstance);
  expect(conductor.writes('InstanceFault.create', 'code')).toEqual([{ code: 404 }]);
});

test('a server loses an address it has, and no other', async () => {
  const { fixedIps, told } = world();
  await fixedIps.remove(context, server(), '10.0.0.5');
  expect(told).toEqual([[]]);
  const gone = fixedIps.remove(context, server(), '10.0.0.6');
  await expect(gone).rejects.toBeInstanceOf(FixedIpNotFoundForInstance);
});
