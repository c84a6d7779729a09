import { InstanceRecords } from '../../../lib/compute/instance-records';
import { noteMachineTypes } from '../../../lib/compute/machine-type';
import { RequestContext } from '../../../lib/messaging';
import { Conductor, Instance, deserialise } from '../../../lib/objects';
import { argsOf, recordedRequest } from '../../support/rpc-recordings';
import { ScriptedConductor } from '../../support/scripted-conductor';

function server(vmState: string, metadata: Readonly<Record<string, string>>): Instance {
  const { instance } = deserialise(argsOf(recordedRequest('build_and_run_instance'))) as Record<
    string,
    unknown
  >;
  if (!(instance instanceof Instance)) throw new Error('the recorded request has no instance');
  instance.update({ vm_state: vmState, system_metadata: { ...instance.systemMetadata, ...metadata } });
  instance.resetChanges();
  return instance;
}

test('notes the machine type with servers that have none, and leaves the others alone', async () => {
  const servers = [
    server('active', {}),
    server('stopped', { image_hw_machine_type: 'q35' }),
    server('building', {}),
  ];
  const conductor = new ScriptedConductor({
    'InstanceList.get_by_host': {
      'nova_object.name': 'InstanceList',
      'nova_object.namespace': 'nova',
      'nova_object.version': '2.6',
      'nova_object.data': { objects: servers.map((instance) => instance.toPrimitive()) },
    },
  });
  const records = new InstanceRecords(new Conductor(conductor, { timeoutMs: 1000 }), 'prebake');
  await noteMachineTypes(RequestContext.admin(), records);
  expect(conductor.writes('Instance.save', 'system_metadata')).toEqual([
    {
      system_metadata: expect.objectContaining({
        image_hw_machine_type: 'pc',
        image_min_disk: '1',
      }) as object,
    },
  ]);
});
