import { InstanceLocks } from '../../../lib/compute/instance-locks';

const UUID = '2abff8de-c6c0-4117-b4aa-adcbecb44bb2';

describe('InstanceLocks', () => {
  it('runs work on one server in the order it came, and on others beside it', async () => {
    const locks = new InstanceLocks();
    const order: string[] = [];
    let release: () => void = () => undefined;
    const first = locks.run(UUID, async () => {
      await new Promise<void>((resolve) => (release = resolve));
      order.push('build');
    });
    const second = locks.run(UUID, () => Promise.resolve(order.push('delete')));
    await locks.run('another', () => Promise.resolve(order.push('another server')));
    expect(order).toEqual(['another server']);
    release();
    await Promise.all([first, second]);
    expect(order).toEqual(['another server', 'build', 'delete']);
    expect(locks.busy(UUID)).toBe(false);
  });

  it('tells the holder of the lock to give up, with the reason', async () => {
    const locks = new InstanceLocks();
    const reason = new Error('deleted');
    const build = locks.run(
      UUID,
      (signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error));
        }),
    );
    await new Promise(setImmediate);
    locks.abort(UUID, reason);
    await expect(build).rejects.toBe(reason);
  });

  it('lets the next one in after a failure', async () => {
    const locks = new InstanceLocks();
    await expect(locks.run(UUID, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    await expect(locks.run(UUID, () => Promise.resolve('yes'))).resolves.toBe('yes');
  });
});
