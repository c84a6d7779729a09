/**
 * Acknowledges what a channel delivers: one word to the broker for all messages that came at once, instead of one for each.
 * It leaves as early as single ones would, since amqplib, too, sends nothing before the messages at hand are dealt with.
 */
import type { Channel, Message } from 'amqplib';

export class Acknowledger {
  private last: Message | null = null;
  private kept = false;

  constructor(private readonly channel: Pick<Channel, 'ack'>) {}

  /** Acknowledges a message; in the order of delivery. */
  ack(message: Message): void {
    if (this.kept) {
      this.channel.ack(message);
      return;
    }
    if (this.last === null) process.nextTick(() => this.flush());
    this.last = message;
  }

  /** Leaves a message unacknowledged, for the broker to give to others: no later word may speak for it. */
  keep(): void {
    this.flush();
    this.kept = true;
  }

  private flush(): void {
    const { last } = this;
    this.last = null;
    if (last === null) return;
    try {
      this.channel.ack(last, true);
    } catch {
      // The channel was closed under us: the broker delivers them again, and receivers know what they have had.
    }
  }
}
