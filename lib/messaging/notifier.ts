/**
 * Notifications as oslo.messaging's notifier sends them (oslo_messaging/notify/notifier.py, driver messagingv2): to topics
 * that others listen to, one queue per topic and priority. They are news, not requests: one that cannot be sent is lost
 * with a word in the log, and nobody waits for it.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { describeError } from '../exceptions';
import type { RequestContext } from './context';
import { encode, newId } from './envelope';
import type { Publisher } from './publisher';
import { pythonTime } from '../python-time';

const EXCHANGE = 'nova';
const DEADLINE_MS = 60_000;

/** One piece of news. */
export interface Notification {
  /** Who tells: `compute.<host>`. */
  readonly publisherId: string;
  /** `compute.instance.create.end` */
  readonly eventType: string;
  readonly priority: 'INFO' | 'ERROR';
  readonly payload: unknown;
}

/** Sends notifications to some topics. */
export class Notifier {
  constructor(
    private readonly publisher: Pick<Publisher, 'publish'>,
    private readonly topics: readonly string[],
    private readonly logger: Logger,
  ) {}

  /** Sends it in the background. */
  notify(context: RequestContext, { publisherId, eventType, priority, payload }: Notification): void {
    const content = encode({
      message_id: randomUUID(),
      publisher_id: publisherId,
      event_type: eventType,
      priority,
      payload,
      timestamp: pythonTime(new Date()),
      _unique_id: newId(),
      ...context.toMessage(),
    });
    for (const topic of this.topics) {
      const key = `${topic}.${priority.toLowerCase()}`;
      const route = { kind: 'notification', exchange: EXCHANGE, key } as const;
      this.publisher.publish({ route, content, deadlineMs: DEADLINE_MS }).done.catch((error: unknown) => {
        this.logger.warn({ event: eventType, topic }, `a notification was lost: ${describeError(error)}`);
      });
    }
  }
}
