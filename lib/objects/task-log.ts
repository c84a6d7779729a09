/** A task that is done once for a stretch of time (nova/objects/task_log.py). */
import { NovaObject } from './nova-object';

export class TaskLog extends NovaObject {
  static readonly className = 'TaskLog';
}
