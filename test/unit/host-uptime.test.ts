import { HostUptime } from '../../drivers/libvirt/host-uptime';

describe('HostUptime', () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  test('asks once for all who want to know within a second', async () => {
    const read = jest.fn((): Promise<string> => Promise.resolve(`up ${read.mock.calls.length}`));
    const uptime = new HostUptime(read);
    expect(await Promise.all([uptime.line(), uptime.line()])).toEqual(['up 1', 'up 1']);
    jest.advanceTimersByTime(1100);
    expect(await uptime.line()).toBe('up 2');
  });

  test('asks again after a failure', async () => {
    const read = jest
      .fn<Promise<string>, []>()
      .mockRejectedValueOnce(new Error('no process'))
      .mockResolvedValue('up 1');
    const uptime = new HostUptime(read);
    await expect(uptime.line()).rejects.toThrow('no process');
    expect(await uptime.line()).toBe('up 1');
  });
});
