/**
 * The frame of every operation on a server: one at a time, an entry in its action log, and on failure a fault the user
 * can read and a task state that does not hang (nova/compute/manager.py: wrap_instance_event, wrap_instance_fault,
 * reverts_task_state).
 */
import { describeError } from '../exceptions';
import { type Logger, logAbout } from '../log';
import { type RequestContext, isRemoteError } from '../messaging';
import type { Instance } from '../objects';
import type { InstanceLocks } from './instance-locks';
import type { InstanceRecords } from './instance-records';
import type { Details, InstanceNews } from './notifications';

/** What an operation works with. */
export interface InstanceActionsParts {
  readonly records: InstanceRecords;
  readonly locks: InstanceLocks;
  /** Without it nobody is told. */
  readonly news?: Pick<InstanceNews, 'tell'>;
  readonly logger: Logger;
}

/** Runs operations on servers inside their frame. */
export class InstanceActions {
  constructor(private readonly parts: InstanceActionsParts) {}

  /**
   * Runs `work` as the operation `method` (`stop_instance`). What it throws is recorded with the server and thrown on,
   * so that a call is answered with it. `instance` has all its attributes by then. The signal fires when the server is to
   * be deleted meanwhile.
   * @param details what notifications say of it besides
   */
  async run<T>(
    context: RequestContext,
    instance: Instance,
    method: string,
    work: (log: Logger, signal: AbortSignal) => Promise<T>,
    details: Details = {},
  ): Promise<T> {
    const { records, locks, news, logger } = this.parts;
    const event = `compute_${method}`;
    const log = logAbout(logger, { context, instanceUuid: instance.uuid }).child({
      method,
    });
    return locks.run(instance.uuid, async (signal) => {
      await this.attempt(log, 'action event', () => records.startEvent(context, instance.uuid, event));
      let failure: unknown = null;
      try {
        await records.complete(context, instance);
        news?.tell(context, instance, method, 'start', details);
        const result = await work(log, signal);
        news?.tell(context, instance, method, 'end', details);
        return result;
      } catch (error) {
        failure = error;
        news?.tell(context, instance, method, 'error', { ...details, error });
        log.error(`failed: ${describeError(error)}`);
        await this.recordFailure(context, instance, error, log);
        throw error;
      } finally {
        await this.attempt(log, 'action event', () =>
          records.finishEvent(context, instance.uuid, event, failure),
        );
      }
    });
  }

  /** Leaves a fault with the server and takes its task state back. */
  private async recordFailure(
    context: RequestContext,
    instance: Instance,
    error: unknown,
    log: Logger,
  ): Promise<void> {
    const { records } = this.parts;
    // A state that was changed under us belongs to whoever changed it.
    if (isRemoteError(error, 'UnexpectedDeletingTaskStateError') || isRemoteError(error, 'InstanceNotFound'))
      return;
    await this.attempt(log, 'fault', () => records.createFault(context, instance.uuid, error));
    await this.attempt(log, 'task state', async () => {
      instance.set('task_state', null);
      await records.save(context, instance);
    });
  }

  private async attempt(log: Logger, what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      log.warn(`could not record the ${what}: ${describeError(error)}`);
    }
  }
}
