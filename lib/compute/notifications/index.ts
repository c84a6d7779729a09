/**
 * Telling other services what happens to servers, in the format that the operator chose (nova/compute/utils.py:
 * notify_about_instance_usage, notify_about_instance_action). News never hold up or fail what they are about.
 */
import type { Config } from '../../config';
import { describeError } from '../../exceptions';
import type { Logger } from '../../log';
import type { Messaging, RequestContext } from '../../messaging';
import type { Instance } from '../../objects';
import { type AuditPeriod, lastAuditPeriod } from '../audit-period';
import { ACTION_NAMES } from './actions';
import { imageUrl, legacyPayload } from './legacy';
import { existsPayload, versionedPayload } from './versioned';
import { pythonTime } from '../../python-time';

/** When in an operation. */
export type Phase = 'start' | 'end' | 'error';

/** What more is said of an operation. */
export interface Details {
  readonly error?: unknown;
  /** Fields of versioned payloads. */
  readonly versioned?: Readonly<Record<string, unknown>>;
  /** The image that was used up to now, where the server has another one already. */
  readonly usedImage?: string;
  /** Fields of legacy payloads. */
  readonly legacy?: Readonly<Record<string, unknown>>;
}

/** Sends one piece of news. */
type Send = (
  context: RequestContext,
  eventType: string,
  priority: 'INFO' | 'ERROR',
  payload: unknown,
) => void;

/** Tells of operations on servers. */
export class InstanceNews {
  private constructor(
    private readonly options: {
      readonly legacy: Send | null;
      readonly versioned: Send | null;
      readonly glanceUrl: string | null;
      readonly instanceNameTemplate: string;
      /** `instance_usage_audit_period` */
      readonly auditPeriod: string;
      readonly logger: Logger;
    },
  ) {}

  /** As nova.conf says; without a driver for notifications nothing is ever sent. */
  static create(config: Config, messaging: Pick<Messaging, 'notifier'>, logger: Logger): InstanceNews {
    const { driver, topics } = config.osloMessagingNotifications;
    const { notificationFormat: format, versionedNotificationsTopics } = config.notifications;
    const enabled = driver.some((name) => name === 'messaging' || name === 'messagingv2');
    const sender = (wanted: boolean, to: readonly string[], publisherId: string): Send | null => {
      if (!enabled || !wanted) return null;
      const notifier = messaging.notifier(to);
      return (context, eventType, priority, payload) =>
        notifier.notify(context, { publisherId, eventType, priority, payload });
    };
    return new InstanceNews({
      legacy: sender(format !== 'versioned', topics, `compute.${config.default.host}`),
      versioned: sender(
        format !== 'unversioned',
        versionedNotificationsTopics,
        `nova-compute:${config.default.host}`,
      ),
      glanceUrl: config.glance.apiServers?.[0]?.replace(/\/$/, '') ?? null,
      instanceNameTemplate: config.default.instanceNameTemplate,
      auditPeriod: config.default.instanceUsageAuditPeriod,
      logger,
    });
  }

  /**
   * Tells what a server is and has, so that its use of a period can be counted (nova/compute/utils.py,
   * notify_usage_exists). @throws what is wrong with the server's record
   */
  tellExists(
    context: RequestContext,
    instance: Instance,
    period: AuditPeriod,
    usedImage = instance.imageRef,
  ): void {
    const { legacy, versioned, glanceUrl } = this.options;
    const extra = {
      audit_period_beginning: pythonTime(period.begin),
      audit_period_ending: pythonTime(period.end),
      image_ref_url: imageUrl(usedImage, glanceUrl),
    };
    legacy?.(context, 'compute.instance.exists', 'INFO', legacyPayload(instance, { glanceUrl, extra }));
    versioned?.(context, 'instance.exists', 'INFO', existsPayload(instance, context, period));
  }

  /** Tells that the RPC `method` on the server is in this phase; nothing for methods that are not told of. */
  tell(
    context: RequestContext,
    instance: Instance,
    method: string,
    phase: Phase,
    details: Details = {},
  ): void {
    const action = ACTION_NAMES[method];
    if (action === undefined || (phase === 'error' && !action.error)) return;
    const { legacy, versioned, glanceUrl, instanceNameTemplate, auditPeriod, logger } = this.options;
    const priority = phase === 'error' ? 'ERROR' : 'INFO';
    try {
      if (action.usage && phase === 'start') {
        const now = new Date();
        const period = { begin: lastAuditPeriod(auditPeriod, now).end, end: now };
        this.tellExists(context, instance, period, details.usedImage);
      }
      const error = details.error === undefined ? {} : { error: details.error };
      if (action.legacy !== null) {
        const payload = (): unknown =>
          legacyPayload(instance, { glanceUrl, ...error, extra: details.legacy ?? {} });
        legacy?.(context, `compute.instance.${action.legacy}.${phase}`, priority, payload());
      }
      const payload = (): unknown =>
        versionedPayload(instance, {
          context,
          action: action.name,
          ...error,
          instanceName: instance.nameFrom(instanceNameTemplate),
          details: details.versioned ?? {},
        });
      versioned?.(context, `instance.${action.name}.${phase}`, priority, payload());
    } catch (error) {
      logger.warn({ instance_uuid: instance.uuid, method, phase }, `not told of: ${describeError(error)}`);
    }
  }
}
