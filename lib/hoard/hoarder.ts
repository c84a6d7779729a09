/**
 * Keeps this host's cache complete: hears what is new from Glance and from the other hosts, and sweeps now and then for
 * what it did not hear.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { z } from 'zod';
import type { Baker } from '../bake';
import { describeError } from '../exceptions';
import {
  type Messaging,
  type Notification,
  NotificationListener,
  type NotificationOptions,
} from '../messaging';
import type { Glance } from '../openstack';
import type { Squirrel } from '../squirrel';
import { Announcements } from './announcements';
import { Supply, type SharedStore, type TransferMeter } from './supply';
import { type BakePolicy, Sweeper } from './sweeper';

/** Glance's control exchange, and the topic that oslo.messaging's notifier uses unless it is told otherwise. */
const GLANCE_EXCHANGE = 'glance';
const GLANCE_ROUTING_KEY = 'notifications.info';

const imagePayload = z.looseObject({ id: z.uuid() });

export interface HoarderParts {
  readonly host: string;
  /** As it is at the time: it may be changed while the service runs. */
  readonly policy: () => BakePolicy;
  readonly sweepIntervalMs: number;
  readonly squirrel: Squirrel;
  readonly baker: Pick<Baker, 'bake' | 'keyOf' | 'failures'>;
  readonly glance: Pick<Glance, 'list' | 'show'>;
  readonly shared: SharedStore | undefined;
  readonly messaging: Messaging;
  /** How Glance's notifications are heard. */
  readonly notifications: Omit<NotificationOptions, 'exchange' | 'routingKey' | 'queue' | 'onNotification'>;
  readonly meter: TransferMeter;
  readonly logger: Logger;
}

/** The hoarding of this host. */
export class Hoarder {
  /** Where boots get their µVMs from. */
  readonly supply: Supply;
  private readonly sweeper: Sweeper;
  private readonly ending = new AbortController();
  private readonly running = new Set<Promise<void>>();
  private announcements: Announcements | undefined;
  private notifications: NotificationListener | undefined;

  constructor(private readonly parts: HoarderParts) {
    const { squirrel, baker, shared, meter, logger, glance, policy } = parts;
    this.supply = new Supply({
      squirrel,
      baker,
      shared,
      meter,
      logger,
      announce: async (uvm) => this.announcements?.stored(uvm),
    });
    this.sweeper = new Sweeper({ glance, squirrel, baker, supply: this.supply, shared, policy, logger });
  }

  /** Begins to listen and to sweep; resolves when announcements of other hosts are heard. */
  async start(): Promise<void> {
    const { host, messaging, shared, logger, notifications } = this.parts;
    if (shared !== undefined) {
      this.announcements = await Announcements.start({
        messaging,
        host,
        logger,
        onStored: ({ imageId }) =>
          this.run('an announcement', (signal) => this.sweeper.consider(imageId, signal)),
      });
    }
    this.notifications = NotificationListener.start({
      ...notifications,
      exchange: GLANCE_EXCHANGE,
      routingKey: GLANCE_ROUTING_KEY,
      queue: `prebake_glance.${host}`,
      onNotification: (notification) => this.heard(notification),
    });
    this.run('the sweep', (signal) => this.sweepForEver(signal));
  }

  /** Stops listening, gives up what is under way and waits for its end. */
  async close(): Promise<void> {
    this.ending.abort(new Error('the service stops'));
    await this.notifications?.close();
    await this.announcements?.close();
    await this.supply.close();
    await Promise.all(this.running);
  }

  private heard({ event_type: event, payload }: Notification): void {
    if (!['image.activate', 'image.update', 'image.delete'].includes(event)) return;
    const { id } = imagePayload.parse(payload);
    this.run(event, (signal) =>
      event === 'image.delete' ? this.sweeper.forget(id, signal) : this.sweeper.consider(id, signal),
    );
  }

  private async sweepForEver(signal: AbortSignal): Promise<void> {
    const { sweepIntervalMs, logger } = this.parts;
    for (;;) {
      await this.sweeper.sweep(signal).catch((error: unknown) => {
        signal.throwIfAborted();
        logger.warn(`the sweep was cut short: ${describeError(error)}`);
      });
      // Hosts that were started together need not all ask at once.
      await delay(sweepIntervalMs * (0.9 + Math.random() / 5), undefined, { signal });
    }
  }

  /** Runs work in the background until it ends or the service does. */
  private run(what: string, work: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.ending;
    if (signal.aborted) return;
    const task = work(signal)
      .catch((error: unknown) => {
        if (!signal.aborted) this.parts.logger.warn(`${what} was not acted upon: ${describeError(error)}`);
      })
      .finally(() => this.running.delete(task));
    this.running.add(task);
  }
}
