/** The conductor is asked as nova-compute was recorded to ask it, and its answers are taken over. */
import { RemoteError, RequestContext, type CallOptions, type Target } from '../../lib/messaging';
import {
  Conductor,
  ConductorAnswerError,
  expectObject,
  NovaObjectList,
  OBJECT_VERSIONS,
  Service,
} from '../../lib/objects';
import { argsOf, recordedReply, recordedRequest } from '../support/rpc-recordings';

interface Sent {
  readonly target: Target;
  readonly method: string;
  readonly args: Record<string, unknown>;
  readonly options: CallOptions;
}

const context = RequestContext.admin('req-1');

function conductor(answer: unknown): { readonly asked: Sent[]; readonly conductor: Conductor } {
  const asked: Sent[] = [];
  const transport = {
    call: (target: Target, method: string, args: Record<string, unknown>, options: CallOptions) => {
      asked.push({ target, method, args, options });
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
  };
  return { asked, conductor: new Conductor(transport, { timeoutMs: 60_000 }) };
}

test('a ping', async () => {
  const request = recordedRequest('ping');
  const { asked, conductor: peer } = conductor(recordedReply(request).result);
  await peer.ping(context);
  expect(asked).toEqual([
    {
      target: { topic: 'conductor', version: request.version, namespace: request.namespace },
      method: 'ping',
      args: request.args,
      options: { context, timeoutMs: 10_000 },
    },
  ]);
  await expect(conductor('pong').conductor.ping(context)).rejects.toBeInstanceOf(ConductorAnswerError);
});

test('a class method', async () => {
  const request = recordedRequest('ComputeNodeList.get_all_by_host');
  const { asked, conductor: peer } = conductor({
    'nova_object.name': 'ComputeNodeList',
    'nova_object.namespace': 'nova',
    'nova_object.version': '1.17',
    'nova_object.data': { objects: [] },
  });
  const recorded = argsOf(request);
  const result = await peer.classAction(context, 'ComputeNodeList', 'get_all_by_host', ['ref-compute'], {
    use_slave: true,
  });
  expect(expectObject(result, NovaObjectList).objects).toEqual([]);
  expect(asked[0]?.method).toBe(request.method);
  expect(asked[0]?.target.version).toBe(request.version);
  expect(Object.keys(asked[0]?.args ?? {}).sort()).toEqual(Object.keys(recorded).sort());
  expect(asked[0]?.args).toMatchObject({ objname: 'ComputeNodeList', objmethod: 'get_all_by_host' });
  // Nova sends the versions of the objects inside; all of them, in these versions, are in ours.
  expect(OBJECT_VERSIONS).toMatchObject(recorded.object_versions as object);
});

test("an object's method takes over what changed", async () => {
  const request = recordedRequest('Service.save');
  const service = expectObject(argsOf(request).objinst, Service);
  const { asked, conductor: peer } = conductor(recordedReply(request).result);
  expect(await peer.objectAction(context, service, 'save')).toBeNull();
  expect(asked[0]?.args).toEqual(request.args);
  expect(service.changes).toEqual([]);
  const [updates] = recordedReply(request).result as [{ last_seen_up: string }];
  expect(service.lastSeenUp).toEqual(new Date(updates.last_seen_up));
  expect(service.has('obj_what_changed')).toBe(false);
});

test('a failed method leaves the changes', async () => {
  const service = expectObject(argsOf(recordedRequest('Service.save')).objinst, Service);
  const failure = new RemoteError({
    remoteClass: 'ServiceNotFound',
    remoteModule: 'nova.exception',
    message: 'gone',
    args: [],
    kwargs: {},
    traceback: [],
  });
  await expect(conductor(failure).conductor.objectAction(context, service, 'save')).rejects.toBe(failure);
  expect(service.changes).toEqual(['report_count']);
  await expect(conductor('odd').conductor.objectAction(context, service, 'save')).rejects.toThrow(
    'Service.save was answered oddly',
  );
});
