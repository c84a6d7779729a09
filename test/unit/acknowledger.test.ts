/** Which messages are acknowledged by which word. */
import type { Message } from 'amqplib';
import { Acknowledger } from '../../lib/messaging/acknowledger';

function channel() {
  const words: [tag: number, allUpTo: boolean][] = [];
  const ack = (message: Message, allUpTo = false): void => {
    words.push([message.fields.deliveryTag, allUpTo]);
  };
  return { words, ack };
}

function message(deliveryTag: number): Message {
  const fields = { deliveryTag, redelivered: false, exchange: '', routingKey: '' };
  return { fields, content: Buffer.alloc(0), properties: {} } as unknown as Message;
}

const said = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('messages that came at once by one', async () => {
  const to = channel();
  const acknowledger = new Acknowledger(to);
  for (const tag of [1, 2, 3]) acknowledger.ack(message(tag));
  expect(to.words).toEqual([]);
  await said();
  acknowledger.ack(message(4));
  await said();
  expect(to.words).toEqual([
    [3, true],
    [4, true],
  ]);
});

test('those after one that is kept by themselves, so that it stays', async () => {
  const to = channel();
  const acknowledger = new Acknowledger(to);
  acknowledger.ack(message(1));
  acknowledger.keep();
  acknowledger.ack(message(3));
  acknowledger.ack(message(4));
  await said();
  expect(to.words).toEqual([
    [1, true],
    [3, false],
    [4, false],
  ]);
});

test('none on a channel that was closed meanwhile, and nothing is thrown', async () => {
  const acknowledger = new Acknowledger({
    ack: () => {
      throw new Error('Channel closed');
    },
  });
  acknowledger.ack(message(1));
  await said();
  acknowledger.ack(message(2));
  await said();
});
