/**
 * A server's clone from its resume on: carries its guest through the new identity and gives its NICs their carrier, and
 * keeps the gate's channel open until the guest's own first boot is done.
 */
import type { Logger } from 'pino';
import { GateClient, GateClosed, type Identification, type IdentifyMessage } from '../../../lib/bake';
import { InstanceNotFound, describeError } from '../../../lib/exceptions';
import type { GuestReady } from '../../driver';
import type { Domain } from '../domain';
import { writeJournal, type CloneJournal } from './journal';
import { until } from './until';

/** cloud-init with packages to install takes its time; only the channel waits for it. */
const DONE_TIMEOUT_MS = 60 * 60_000;
const RECOVER_TIMEOUT_MS = 120_000;
const CONNECT_TIMEOUT_MS = 10_000;
const NEVER = new AbortController().signal;

/** A clone whose guest is becoming, or has become, its server. */
export class CloneGuest {
  private gate: GateClient | undefined;
  /** Whoever let go of the channel does not want to hear that it is closed. */
  private released = false;
  /** The journal says that it is a server like any other. */
  private closed = false;

  constructor(
    private readonly domain: Domain,
    private readonly directory: string,
    private readonly journal: Omit<CloneJournal, 'version' | 'step'>,
    private readonly logger: Logger,
  ) {}

  /** Connects to the gate of a guest that is still paused. */
  async connect(socketPath: string, signal?: AbortSignal): Promise<void> {
    const options = signal === undefined ? {} : { signal };
    this.gate = await GateClient.connect(socketPath, { deadlineMs: CONNECT_TIMEOUT_MS, ...options });
  }

  /** Puts the message into the channel; the guest reads it as soon as it runs. */
  identify(message: IdentifyMessage, timeoutMs: number): Identification {
    if (this.gate === undefined) throw new Error('identify() before connect()');
    return this.gate.identify(message, { timeoutMs, doneTimeoutMs: DONE_TIMEOUT_MS });
  }

  /**
   * Follows a resumed guest: carrier on once it is someone and Neutron has plugged its ports, journal closed, what it has no
   * use for unplugged, gate let go when it is done.
   * @returns its report when all its resources arrived; rejects with InstanceNotFound once `release` was called
   */
  follow(identification: Identification, plugged: Promise<void>): Promise<GuestReady> {
    const carrier = Promise.all([identification.identity, plugged]).then(() => this.giveCarrier());
    const ready = Promise.all([identification.ready, carrier]).then(
      ([report]) => report,
      (error: unknown) => {
        if (!this.released) throw error;
        throw new InstanceNotFound('the clone was ended before it was ready', { cause: error });
      },
    );
    ready.then(
      () => this.dropSurplus(),
      () => undefined,
    );
    identification.done
      .then(() => this.gate?.bye())
      .catch((error: unknown) => {
        // The guest was destroyed, or has rebooted and has no gate any more.
        if (this.released || error instanceof GateClosed) return;
        this.logger.warn(
          { instance: this.domain.uuid },
          `the guest's own first boot: ${describeError(error)}`,
        );
      })
      .finally(() => this.release());
    return ready;
  }

  /** After a restart of the service: asks the guest who it is and gives it its carrier when it is who it should be; boots it cold when it is not. */
  async recover(socketPath: string): Promise<void> {
    try {
      await this.connect(socketPath);
      // It may be at it still, and nothing will tell: its report went to the service that is gone.
      await until('the guest to be its instance', RECOVER_TIMEOUT_MS, NEVER, async () => {
        const answers = await this.gate?.ask({ timeoutMs: RECOVER_TIMEOUT_MS });
        return answers?.instanceId === this.domain.uuid;
      });
      await this.giveCarrier();
      void this.dropSurplus();
      await this.gate?.bye();
    } catch (error) {
      if (this.released) return;
      this.logger.error(
        { uvm: this.journal.key, instance: this.domain.uuid },
        `the clone did not become its server, booting it cold: ${describeError(error)}`,
      );
      await this.restartCold();
    } finally {
      this.release();
    }
  }

  /** The guest is being switched off, restarted or removed: it is no clone any more, whatever it had got to. */
  async abandon(): Promise<void> {
    this.release();
    await this.close();
  }

  /** Lets go of the gate's channel. Idempotent. */
  private release(): void {
    this.released = true;
    this.gate?.close();
  }

  private async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await writeJournal(this.directory, { ...this.journal, step: 'done' });
  }

  private async giveCarrier(): Promise<void> {
    for (const xml of this.journal.interfaces) await this.domain.updateDevice(xml);
    await this.close();
  }

  /** Nobody waits for it: no driver of the guest's knows these devices, and its next start is without them. */
  private async dropSurplus(): Promise<void> {
    for (const xml of this.journal.surplus) {
      try {
        await this.domain.detachDevice(xml);
      } catch (error) {
        if (this.released || error instanceof InstanceNotFound) return;
        this.logger.warn(
          { instance: this.domain.uuid },
          `a device of the µVM that the server has no use for stays until its next start: ${describeError(error)}`,
        );
      }
    }
  }

  /** The disk of a guest that did not become its server is sealed: a cold boot makes it that, as any first boot would. */
  private async restartCold(): Promise<void> {
    await this.domain.destroy();
    await this.close();
    await this.domain.start({ paused: false });
  }
}
