import { SaveChain } from '../../../lib/compute/save-chain';

describe('SaveChain', () => {
  it('runs writes in order, one at a time', async () => {
    const order: string[] = [];
    const chain = new SaveChain(() => undefined);
    let release: () => void = () => undefined;
    chain.push(async () => {
      order.push('first begins');
      await new Promise<void>((resolve) => (release = resolve));
      order.push('first ends');
    });
    chain.push(() => Promise.resolve(order.push('second')));
    await new Promise(setImmediate);
    expect(order).toEqual(['first begins']);
    release();
    await chain.settled();
    expect(order).toEqual(['first begins', 'first ends', 'second']);
  });

  it('stops at the first failure, reports it at once and rejects with it', async () => {
    const failures: unknown[] = [];
    const chain = new SaveChain((error) => failures.push(error));
    const wrong = new Error('unexpected task state');
    let reached = false;
    chain.push(() => Promise.reject(wrong));
    chain.push(() => Promise.resolve((reached = true)));
    await expect(chain.settled()).rejects.toBe(wrong);
    expect(failures).toEqual([wrong]);
    expect(reached).toBe(false);
  });

  it('once stopped, finishes the write under way and begins no other', async () => {
    const done: string[] = [];
    const chain = new SaveChain(() => undefined);
    let release: () => void = () => undefined;
    chain.push(async () => {
      await new Promise<void>((resolve) => (release = resolve));
      done.push('under way');
    });
    chain.push(() => Promise.resolve(done.push('waiting')));
    await new Promise(setImmediate);
    const stopped = chain.stop();
    release();
    await stopped;
    chain.push(() => Promise.resolve(done.push('late')));
    await chain.settled();
    expect(done).toEqual(['under way']);
  });
});
