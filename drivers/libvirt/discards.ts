/**
 * What is left of servers that could not be removed because libvirtd was away. It is marked on disk, and removed when the
 * daemon is back or, should the service not live to see that, at its next start.
 */
import type { Logger } from 'pino';
import { HypervisorUnavailable, describeError } from '../../lib/exceptions';
import type { InstanceStore } from './instance-store';

/** Removes servers, now or as soon as that is possible. */
export class Discards {
  /** @param removeAll removes domain, taps and files of a server; idempotent */
  constructor(
    private readonly instances: InstanceStore,
    private readonly removeAll: (uuid: string) => Promise<void>,
    private readonly logger: Logger,
  ) {}

  /** Nothing is left of the server when this resolves, or it is marked. */
  async discard(uuid: string): Promise<void> {
    try {
      await this.removeAll(uuid);
    } catch (error) {
      if (!(error instanceof HypervisorUnavailable)) throw error;
      await this.instances.markDiscarded(uuid);
      this.logger.warn({ instance_uuid: uuid }, 'its remains are removed when libvirtd is back');
    }
  }

  /** Removes what was marked. Never rejects: what fails stays marked for the next time. */
  async settle(): Promise<void> {
    for (const uuid of await this.instances.listDiscarded()) {
      try {
        await this.removeAll(uuid);
        this.logger.info({ instance_uuid: uuid }, 'removed the remains of a server that could not be built');
      } catch (error) {
        this.logger.warn({ instance_uuid: uuid }, `its remains are still there: ${describeError(error)}`);
      }
    }
  }
}
