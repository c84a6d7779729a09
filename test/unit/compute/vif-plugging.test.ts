import pino from 'pino';
import { ExternalEvents } from '../../../lib/compute/external-events';
import { VifPlugging, type VifPluggingPolicy } from '../../../lib/compute/vif-plugging';
import { VirtualInterfaceCreateException } from '../../../lib/exceptions';
import { networkInfoSchema } from '../../../lib/objects';

const UUID = '2abff8de-c6c0-4117-b4aa-adcbecb44bb2';
const logger = pino({ level: 'silent' });
const never = new AbortController().signal;

function vif(id: string, active: boolean): unknown {
  return {
    id,
    address: 'fa:16:3e:a2:4b:b4',
    network: { id: 'net', bridge: 'brqnet', subnets: [], meta: {} },
    type: 'bridge',
    devname: `tap${id}`,
    active,
    preserve_on_delete: false,
  };
}

function plugging(events: ExternalEvents, policy: VifPluggingPolicy, ...vifs: unknown[]): VifPlugging {
  return new VifPlugging(events, UUID, networkInfoSchema.parse(vifs), policy, logger);
}

describe('VifPlugging', () => {
  it('waits for every port that is not wired yet, whenever its event comes', async () => {
    const events = new ExternalEvents();
    const wait = plugging(
      events,
      { timeoutMs: 60_000, fatal: true },
      vif('a', false),
      vif('b', false),
      vif('c', true),
    );
    expect(events.deliver(UUID, 'network-vif-plugged', 'a', 'completed')).toBe(true);
    const done = wait.wait(never);
    expect(events.deliver(UUID, 'network-vif-plugged', 'b', 'completed')).toBe(true);
    await done;
    expect(events.deliver(UUID, 'network-vif-plugged', 'c', 'completed')).toBe(false);
  });

  it('fails when Neutron reports a failure', async () => {
    const events = new ExternalEvents();
    const wait = plugging(events, { timeoutMs: 60_000, fatal: true }, vif('a', false));
    events.deliver(UUID, 'network-vif-plugged', 'a', 'failed');
    await expect(wait.wait(never)).rejects.toThrow(VirtualInterfaceCreateException);
  });

  it.each([
    [true, 'rejects'],
    [false, 'goes on'],
  ])('when no event comes in time and vif_plugging_is_fatal is %s it %s', async (fatal) => {
    const wait = plugging(new ExternalEvents(), { timeoutMs: 5, fatal }, vif('a', false)).wait(never);
    await (fatal ? expect(wait).rejects.toThrow(/L2 agent/) : expect(wait).resolves.toBeUndefined());
  });

  it('gives up at once when the build is aborted, even if plugging is not fatal', async () => {
    const abort = new AbortController();
    const wait = plugging(new ExternalEvents(), { timeoutMs: 60_000, fatal: false }, vif('a', false)).wait(
      abort.signal,
    );
    abort.abort(new Error('deleted'));
    await expect(wait).rejects.toThrow('deleted');
  });

  it('does not wait at all with vif_plugging_timeout=0', async () => {
    await plugging(new ExternalEvents(), { timeoutMs: 0, fatal: true }, vif('a', false)).wait(never);
  });
});
