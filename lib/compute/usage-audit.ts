/**
 * Tells, once for every audit period, of each server that was on this host in it: what billing counts by
 * (nova/compute/manager.py, _instance_usage_audit). Nova's task log keeps who has told of which period.
 */
import { describeError } from '../exceptions';
import type { Logger } from '../log';
import { RequestContext } from '../messaging';
import { lastAuditPeriod } from './audit-period';
import type { InstanceRecords } from './instance-records';
import type { InstanceNews } from './notifications';
import type { PeriodicTask } from './periodic';
import type { TaskLogs } from './task-logs';

const TASK = 'instance_usage_audit';
/** Nova's default period of a periodic task. */
const LOOK_MS = 60_000;

/** What the audit works with. */
export interface UsageAuditParts {
  readonly records: Pick<InstanceRecords, 'listActiveBetween'>;
  readonly taskLogs: TaskLogs;
  readonly news: Pick<InstanceNews, 'tellExists'>;
  readonly host: string;
  readonly logger: Logger;
  readonly options: {
    /** `instance_usage_audit` */
    readonly enabled: boolean;
    /** `instance_usage_audit_period` */
    readonly period: string;
  };
}

/** Audits usage. */
export class UsageAudit {
  constructor(private readonly parts: UsageAuditParts) {}

  /** Nothing when the operator does not want audits. */
  tasks(): PeriodicTask[] {
    if (!this.parts.options.enabled) return [];
    return [{ name: 'usage-audit', intervalMs: LOOK_MS, run: () => this.run() }];
  }

  /** Tells of the last period that is over, unless that was done. */
  async run(now = new Date()): Promise<void> {
    const { records, taskLogs, news, host, logger, options } = this.parts;
    const context = RequestContext.admin();
    const period = lastAuditPeriod(options.period, now);
    if (await taskLogs.exists(context, TASK, period)) return;
    const servers = await records.listActiveBetween(context, period.begin, period.end);
    const taskLog = await taskLogs.begin(context, TASK, period, {
      items: servers.length,
      message: 'Instance usage audit started...',
    });
    let errors = 0;
    for (const server of servers) {
      try {
        news.tellExists(context, server, period);
      } catch (error) {
        errors += 1;
        logger.warn({ instance_uuid: server.uuid }, `its usage could not be told: ${describeError(error)}`);
      }
    }
    const seconds = (Date.now() - now.getTime()) / 1000;
    const message = `Instance usage audit ran for host ${host}, ${servers.length} instances in ${seconds} seconds.`;
    await taskLogs.end(context, taskLog, { errors, message });
    logger.info({ servers: servers.length, errors, ...period }, 'told of the usage of an audit period');
  }
}
