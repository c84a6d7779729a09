/** Nova's log of tasks that are done once for a stretch of time, by host (nova/objects/task_log.py). */
import type { RequestContext } from '../messaging';
import { type Conductor, TaskLog, createObject } from '../objects';
import type { AuditPeriod } from './audit-period';
import { strtime } from '../python-time';

/** Reads and writes of task logs. Every method rejects with RemoteError or MessagingTimeout of `lib/messaging`. */
export class TaskLogs {
  constructor(
    private readonly conductor: Conductor,
    private readonly host: string,
  ) {}

  /** Whether the task was begun for this period, by this host. */
  async exists(context: RequestContext, task: string, { begin, end }: AuditPeriod): Promise<boolean> {
    const args = [task, strtime(begin), strtime(end), this.host];
    return (await this.conductor.classAction(context, 'TaskLog', 'get', args, {})) !== null;
  }

  /** @throws RemoteError TaskAlreadyRunning when somebody else was first */
  async begin(
    context: RequestContext,
    task: string,
    { begin, end }: AuditPeriod,
    { items, message }: { readonly items: number; readonly message: string },
  ): Promise<TaskLog> {
    const log = createObject(TaskLog, {
      task_name: task,
      period_beginning: begin,
      period_ending: end,
      host: this.host,
      task_items: items,
      message,
    });
    await this.conductor.objectAction(context, log, 'begin_task', [], {});
    return log;
  }

  async end(
    context: RequestContext,
    log: TaskLog,
    outcome: { readonly errors: number; readonly message: string },
  ): Promise<void> {
    log.update(outcome);
    await this.conductor.objectAction(context, log, 'end_task', [], {});
  }
}
