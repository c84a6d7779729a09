/** A process of its own that spawns a server and kills itself in the middle; told by its parent which and where. */
import type { InstanceIdentity, InstanceSpec, SpawnRequest } from '../../../drivers/driver';
import type { NetworkInfo } from '../../../lib/objects';
import { Timeline } from '../../../lib/timeline';
import { driverOf, type UvmHostPlace } from './uvm-host';

interface Orders {
  readonly place: UvmHostPlace;
  readonly at: 'restored' | 'running' | 'plugged';
  readonly instance: InstanceSpec;
  readonly template: SpawnRequest['template'];
  readonly network: NetworkInfo;
  /** Buffers became `{type, data}` on the way; this test's guests need none of them on a drive. */
  readonly identity: InstanceIdentity;
}

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('still alive');
}

process.once('message', (orders: Orders) => {
  const { at, instance, template, network } = orders;
  const driver = driverOf(orders.place);
  const userData = orders.identity.userData;
  const identity = {
    ...orders.identity,
    userData: userData === null ? null : Buffer.from(userData),
    files: orders.identity.files.map((file) => ({ ...file, content: Buffer.from(file.content) })),
  };
  const timeline = new Timeline();
  const request: SpawnRequest = {
    instance,
    template,
    timeline,
    network: Promise.resolve(network),
    identity: Promise.resolve(identity),
    vifsPlugged: () => new Promise(() => undefined),
    signal: new AbortController().signal,
  };
  const phase = timeline.phase.bind(timeline);
  const last = at === 'restored' ? 'resume' : at === 'running' ? 'hotplug' : 'vifs';
  timeline.phase = (name, work) => (name === last ? die() : phase(name, work));
  driver
    .initHost()
    .then(() => driver.spawn(request))
    .catch(() => process.exit(1));
});
