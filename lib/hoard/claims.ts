/**
 * Claims on work that one host is to do for all: an object that only one host can create, that lives for a short time
 * and is renewed while the work goes on. The store's clock alone decides when the claim of a dead host is over; that it
 * is forgotten and can be taken by one other host are the same thing to the store.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { z } from 'zod';
import { describeError } from '../exceptions';
import type { ObjectStore } from '../openstack';

/** How long a claim outlives its owner. */
export const CLAIM_LIFE_S = 90;
const RENEW_MS = 20_000;
/**
 * Swift looks whether a name is free when a PUT begins, not when it ends: hosts that claim at the same moment may all be
 * told that they have it. The newest PUT stays; after this time all of them are over, and each host reads whose it is.
 */
const SETTLE_MS = 2000;
const MAX_CLAIM_BYTES = 4096;

const claimSchema = z.object({ owner: z.string(), token: z.string() });

/** A claim that is held until it is released. */
export interface Claim {
  /** Stops renewing and lets others claim. */
  release(): Promise<void>;
}

/** How long a claim lives, how often it is renewed meanwhile, and how long hosts that claim at once wait for each other. */
export interface ClaimTimes {
  readonly lifeS: number;
  readonly renewMs: number;
  readonly settleMs: number;
}

/** Takes claims for one host. */
export class Claims {
  constructor(
    private readonly objects: ObjectStore,
    /** Shown to the others. */
    private readonly owner: string,
    private readonly logger: Logger,
    private readonly times: ClaimTimes = { lifeS: CLAIM_LIFE_S, renewMs: RENEW_MS, settleMs: SETTLE_MS },
  ) {}

  /** The claim, or undefined while somebody else has it. */
  async take(what: string, signal?: AbortSignal): Promise<Claim | undefined> {
    const name = nameOf(what);
    const { lifeS, renewMs } = this.times;
    const token = await this.put(name, lifeS, signal);
    if (token === undefined) return undefined;
    const isMine = async (): Promise<boolean> => (await this.read(name))?.token === token;
    const renew = async (): Promise<void> => {
      if (!(await isMine()) || !(await this.objects.renew(name, lifeS))) {
        clearInterval(timer);
        this.logger.warn({ claim: what }, 'another host may do the same work: the claim ran out');
      }
    };
    const timer = setInterval(() => {
      renew().catch((error: unknown) =>
        this.logger.warn({ claim: what }, `the claim was not renewed: ${describeError(error)}`),
      );
    }, renewMs);
    timer.unref();
    return {
      release: async () => {
        clearInterval(timer);
        try {
          if (await isMine()) await this.objects.remove(name);
        } catch (error) {
          this.logger.warn({ claim: what }, `the claim runs out by itself: ${describeError(error)}`);
        }
      },
    };
  }

  /** Takes a claim that nobody renews or releases; false while there is one. */
  async takeFor(what: string, seconds: number, signal?: AbortSignal): Promise<boolean> {
    return (await this.put(nameOf(what), seconds, signal)) !== undefined;
  }

  /** Creates the claim's object; the token in it, or undefined when it is somebody else's. */
  private async put(name: string, lifeS: number, signal?: AbortSignal): Promise<string | undefined> {
    const token = randomUUID();
    const content = Buffer.from(JSON.stringify({ owner: this.owner, token }));
    const options = { ifAbsent: true, expiresAfterS: lifeS, signal };
    if (!(await this.objects.put(name, content, options))) return undefined;
    await delay(this.times.settleMs, undefined, { signal });
    return (await this.read(name))?.token === token ? token : undefined;
  }

  /** The host that has the claim, if any. */
  async holder(what: string): Promise<string | undefined> {
    return (await this.read(nameOf(what)))?.owner;
  }

  private async read(name: string): Promise<z.infer<typeof claimSchema> | undefined> {
    const content = await this.objects.get(name, { maxBytes: MAX_CLAIM_BYTES });
    if (content === undefined) return undefined;
    try {
      return claimSchema.parse(JSON.parse(content.toString('utf8')));
    } catch {
      return { owner: 'unknown', token: '' };
    }
  }
}

function nameOf(what: string): string {
  return `claims/${what}`;
}
