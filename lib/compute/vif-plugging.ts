/**
 * Waiting until Neutron has wired a server's ports: nova-compute's `vif_plugging_timeout` and `vif_plugging_is_fatal`
 * (nova/virt/libvirt/driver.py, _get_neutron_events).
 */
import { VirtualInterfaceCreateException } from '../exceptions';
import type { Logger } from '../log';
import type { NetworkInfo } from '../objects';
import type { ExpectedEvent, ExternalEvents } from './external-events';

const PLUGGED = 'network-vif-plugged';

/** The operator's two options. */
export interface VifPluggingPolicy {
  /** 0: do not wait at all. */
  readonly timeoutMs: number;
  /** Whether a port that is not wired in time fails the build. */
  readonly fatal: boolean;
}

/** The wait for one server; begun before its taps exist, so that no event is missed. */
export class VifPlugging {
  private readonly expected: readonly (ExpectedEvent & { readonly portId: string })[];

  constructor(
    events: ExternalEvents,
    instanceUuid: string,
    networkInfo: NetworkInfo,
    private readonly policy: VifPluggingPolicy,
    private readonly logger: Logger,
  ) {
    const waited = policy.timeoutMs > 0 ? networkInfo.filter((vif) => !vif.active) : [];
    this.expected = waited.map((vif) => ({
      portId: vif.id,
      ...events.expect(instanceUuid, PLUGGED, vif.id),
    }));
  }

  /** Resolves when every port is wired, or when that does not matter any more. */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.expected.length === 0) return;
    let timer: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    const late = new Promise<never>((_, reject) => {
      const seconds = this.policy.timeoutMs / 1000;
      const message = `Neutron did not report ${PLUGGED} within ${seconds} s (vif_plugging_timeout); is the L2 agent of this host running?`;
      timer = setTimeout(() => reject(new VirtualInterfaceCreateException(message)), this.policy.timeoutMs);
      onAbort = () => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
    });
    try {
      await Promise.race([Promise.all(this.expected.map((event) => event.outcome)), late]);
    } catch (error) {
      if (signal.aborted || this.policy.fatal) throw error;
      this.logger.warn(
        `${error instanceof Error ? error.message : String(error)}; going on (vif_plugging_is_fatal=False)`,
      );
    } finally {
      clearTimeout(timer);
      if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
      this.cancel();
    }
  }

  /** Stops waiting. */
  cancel(): void {
    for (const event of this.expected) event.cancel();
  }
}
