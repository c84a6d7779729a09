/** One read for all who ask at once, and never an answer from before the question. */
import { GroupedRead } from '../../../lib/compute/network/grouped-read';

/** Reads that end when the test says so. */
class Slow {
  readonly begun: { readonly key: string; readonly end: (answer: Error | string) => void }[] = [];
  readonly reads = new GroupedRead<string>(
    (key) =>
      new Promise((resolve, reject) => {
        this.begun.push({
          key,
          end: (answer) => (typeof answer === 'string' ? resolve(answer) : reject(answer)),
        });
      }),
  );
}

const settle = async (): Promise<void> => await new Promise((resolve) => setImmediate(resolve));

test('whoever asks while a read is under way shares the next one', async () => {
  const slow = new Slow();
  const first = slow.reads.get('a');
  const others = [slow.reads.get('a'), slow.reads.get('a')];
  expect(slow.begun).toHaveLength(1);
  slow.begun[0]?.end('before');
  await expect(first).resolves.toBe('before');
  await settle();
  expect(slow.begun).toHaveLength(2);
  slow.begun[1]?.end('after');
  await expect(Promise.all(others)).resolves.toEqual(['after', 'after']);
});

test('different things are read at the same time', () => {
  const slow = new Slow();
  void slow.reads.get('a');
  void slow.reads.get('b');
  expect(slow.begun.map(({ key }) => key)).toEqual(['a', 'b']);
});

test('a read that fails fails for those who asked for it, and for nobody after them', async () => {
  const slow = new Slow();
  const first = slow.reads.get('a');
  const second = slow.reads.get('a');
  slow.begun[0]?.end(new Error('away'));
  await expect(first).rejects.toThrow('away');
  await settle();
  slow.begun[1]?.end('back');
  await expect(second).resolves.toBe('back');
  await settle();
  const third = slow.reads.get('a');
  slow.begun[2]?.end('still there');
  await expect(third).resolves.toBe('still there');
});
