import { figure, median, quantile } from '../bench/figures';

describe('figures of a bench', () => {
  test('are medians with their spread, beside those of the peer', () => {
    const ours = figure({
      name: 'RPC to ACTIVE',
      unit: 'ms',
      values: [300, 100, 200],
      peer: { name: 'nova-compute', values: [1000, 900, 4000] },
      goal: { of: 'ratio', bound: 'at most', limit: 0.25 },
    });
    expect(ours).toEqual({
      name: 'RPC to ACTIVE',
      value: 200,
      unit: 'ms',
      goal: 'at most 0.25 of the peer',
      peer: 'nova-compute',
      peer_value: 1000,
      ratio: 0.2,
      runs: 3,
      met: true,
      spread: [100, 300],
      peer_spread: [900, 4000],
    });
  });

  test('say that a goal is missed', () => {
    const slow = { name: 'restore', unit: 'ms', values: [250] };
    expect(figure({ ...slow, goal: { of: 'value', bound: 'at most', limit: 200 } })).toMatchObject({
      goal: 'at most 200 ms',
      met: false,
    });
    expect(figure({ ...slow, goal: { of: 'value', bound: 'at least', limit: 200 } }).met).toBe(true);
  });

  test('claim nothing without a goal, or against a peer that measured nothing', () => {
    const idle = { name: 'processor while idle', unit: '%', values: [1] };
    expect(figure(idle)).toMatchObject({ goal: null, met: null, peer: null, ratio: null });
    const goal = { of: 'ratio', bound: 'at most', limit: 0.5 } as const;
    expect(figure({ ...idle, peer: { name: 'stock', values: [0] }, goal })).toMatchObject({
      ratio: null,
      met: null,
    });
  });

  test('need at least one value', () => {
    expect(() => median([])).toThrow('nothing was measured');
    expect(median([4, 1])).toBe(2.5);
    expect(quantile([1, 2, 3, 4, 5], 0.99)).toBeCloseTo(4.96);
  });
});
