/** The baker of a host: a queue in front of bakes, one at a time, each image once however many ask for it. */
import type { Logger } from 'pino';
import type { ImageSpec, TemplateDriver } from '../../drivers/driver';
import { CertificateValidationFailed, describeError, SignatureVerificationError } from '../exceptions';
import type { Squirrel, UvmManifest } from '../squirrel';
import { Timeline, phasesInWords } from '../timeline';
import { runBake, type BakePhase } from './bake-run';
import { BakeFailures, type FailedBake } from './failures';
import { imagePolicy } from './image-policy';
import { ImageUnsuitable } from './unsuitable';
import { bakeMemoryMb, uvmKey } from './uvm-key';

/** Where a bake is; `percent` only where it is known. */
export interface BakeProgress {
  readonly imageId: string;
  readonly phase: BakePhase | 'queue';
  readonly percent?: number;
  /** Milliseconds since the bake was asked for. */
  readonly elapsedMs: number;
}

/** How a bake ended; `durationMs` is the time it was in hand, its wait in the queue left out. */
export type BakeEnd = { readonly imageId: string; readonly durationMs: number } & (
  { readonly outcome: 'made' } | { readonly outcome: 'failed'; readonly reason: string }
);

/** A bake did not end in a µVM; says in which step and why. */
export class BakeError extends Error {
  constructor(
    readonly imageId: string,
    readonly phase: BakePhase | 'queue',
    reason: string,
    options?: ErrorOptions,
  ) {
    super(`baking image ${imageId} failed (${phase}): ${reason}`, options);
    this.name = 'BakeError';
  }
}

/** What of the configuration concerns baking; `Config` has it. */
export interface BakeConfig {
  readonly prebake: {
    readonly bake: 'auto' | 'tagged' | 'all' | 'never';
    readonly baseMemoryMb: number;
    readonly bakeTimeoutS: number;
    /** Days after which a µVM is baked anew; 0: never. */
    readonly uvmMaxAgeDays: number;
  };
}

/** What a baker works with. */
export interface BakerParts {
  readonly squirrel: Squirrel;
  readonly driver: TemplateDriver;
  readonly config: BakeConfig;
  readonly logger: Logger;
  /** Hears of every step of every bake. */
  readonly onProgress?: (progress: BakeProgress) => void;
  /** Hears of each bake that ended. */
  readonly onEnded?: (end: BakeEnd) => void;
}

/** How one caller follows or gives up a bake. */
export interface BakeOptions {
  readonly onProgress?: (progress: BakeProgress) => void;
  /** Lets go of the bake; it ends, with all it had started, when nobody is left who wants it. */
  readonly signal?: AbortSignal;
}

interface Job {
  readonly image: ImageSpec;
  readonly startedAt: number;
  readonly listeners: Set<(progress: BakeProgress) => void>;
  readonly abort: AbortController;
  callers: number;
  progress: BakeProgress;
  result: Promise<UvmManifest>;
}

/** Bakes µVMs of images. */
export class Baker {
  private readonly jobs = new Map<string, Job>();
  private tail: Promise<unknown> = Promise.resolve();
  private closed = false;
  /** Why images have no µVM, from this process and others. */
  readonly failures: BakeFailures;

  private constructor(private readonly parts: BakerParts) {
    this.failures = new BakeFailures(parts.squirrel.directory);
  }

  static create(parts: BakerParts): Baker {
    return new Baker(parts);
  }

  /**
   * Bakes an image, or joins the bake of it that is under way; an existing µVM is baked anew.
   * @throws BakeError, or the signal's reason
   */
  async bake(image: ImageSpec, { onProgress, signal }: BakeOptions = {}): Promise<UvmManifest> {
    signal?.throwIfAborted();
    const job = this.jobs.get(image.id) ?? this.enqueue(image);
    job.callers += 1;
    if (onProgress !== undefined) {
      job.listeners.add(onProgress);
      onProgress(job.progress);
    }
    let leave = (): void => undefined;
    const left = new Promise<never>((_resolve, reject) => {
      leave = () => reject(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
    });
    signal?.addEventListener('abort', leave, { once: true });
    try {
      return await Promise.race([job.result, left]);
    } finally {
      signal?.removeEventListener('abort', leave);
      if (onProgress !== undefined) job.listeners.delete(onProgress);
      job.callers -= 1;
      if (job.callers === 0) job.abort.abort(new Error('nobody wants this bake any more'));
    }
  }

  /** The key of an image's µVM on this host, as its platform is now. */
  async keyOf(image: ImageSpec): Promise<string> {
    const { driver, config } = this.parts;
    return uvmKey(image, await driver.platform(), bakeMemoryMb(image, config.prebake.baseMemoryMb));
  }

  /** Progress of the bakes under way and waiting, in order. */
  get state(): readonly BakeProgress[] {
    return [...this.jobs.values()].map((job) => job.progress);
  }

  /** Ends all bakes and waits until nothing of them is left. */
  async close(): Promise<void> {
    this.closed = true;
    for (const job of this.jobs.values()) job.abort.abort(new Error('the service stops'));
    await this.tail;
  }

  private enqueue(image: ImageSpec): Job {
    const abort = new AbortController();
    const progress: BakeProgress = { imageId: image.id, phase: 'queue', elapsedMs: 0 };
    const job: Job = {
      image,
      startedAt: performance.now(),
      listeners: new Set(),
      abort,
      callers: 0,
      progress,
      result: Promise.reject(new Error('not started')),
    };
    job.result.catch(() => undefined);
    if (this.closed) abort.abort(new Error('the service stops'));
    job.result = this.tail.then(() => this.run(job));
    this.tail = job.result.catch(() => undefined);
    this.jobs.set(image.id, job);
    return job;
  }

  private run(job: Job): Promise<UvmManifest> {
    const attributes = { 'openstack.image_id': job.image.id };
    const timeline = new Timeline({ name: 'bake', attributes });
    return timeline.run(() => this.runTimed(job, timeline));
  }

  private async runTimed(job: Job, timeline: Timeline): Promise<UvmManifest> {
    const { squirrel, driver, config, logger } = this.parts;
    const { image } = job;
    const timeoutS = imagePolicy(image).bakeTimeoutS ?? config.prebake.bakeTimeoutS;
    const timeoutMs = timeoutS * 1000;
    const deadline = AbortSignal.timeout(timeoutMs);
    const signal = AbortSignal.any([job.abort.signal, deadline]);
    let key: string | undefined;
    try {
      signal.throwIfAborted();
      const platform = await driver.platform();
      const memoryMb = bakeMemoryMb(image, config.prebake.baseMemoryMb);
      key = uvmKey(image, platform, memoryMb);
      logger.info({ image: image.id, key }, 'baking');
      const manifest = await runBake({
        squirrel,
        driver,
        image,
        key,
        platform,
        memoryMb,
        guestTimeoutMs: timeoutMs,
        report: (phase, percent) => this.report(job, timeline, phase, percent),
        signal,
      });
      await this.failures.clear(key);
      this.ended(job, timeline, { outcome: 'made' });
      const elapsedMs = Math.round(performance.now() - job.startedAt);
      const phases = phasesInWords(timeline.spans);
      logger.info({ image: image.id, key, elapsedMs, addedBytes: manifest.addedBytes, phases }, 'baked');
      return manifest;
    } catch (error) {
      const late = deadline.aborted && !job.abort.signal.aborted;
      const { phase } = job.progress;
      const reason = late ? `not done after ${timeoutS} s` : describeError(error);
      const failure = new BakeError(image.id, phase, reason, { cause: error });
      logger.error({ err: failure, image: image.id }, 'bake failed');
      if (key !== undefined && !job.abort.signal.aborted && !isForOneServerOnly(image, error)) {
        await this.remember({
          key,
          imageId: image.id,
          phase,
          reason,
          forGood: error instanceof ImageUnsuitable,
        });
      }
      this.ended(job, timeline, { outcome: 'failed', reason: failure.message });
      throw failure;
    } finally {
      this.jobs.delete(image.id);
    }
  }

  private async remember(failed: FailedBake): Promise<void> {
    await this.failures
      .record(failed)
      .catch((error: unknown) =>
        this.parts.logger.warn(`a failed bake is forgotten: ${describeError(error)}`),
      );
  }

  private ended(
    job: Job,
    timeline: Timeline,
    end: { outcome: 'made' } | { outcome: 'failed'; reason: string },
  ): void {
    const durationMs = Math.round(timeline.elapsedMs());
    timeline.end({ 'prebake.outcome': end.outcome }, 'reason' in end ? new Error(end.reason) : undefined);
    this.parts.onEnded?.({ imageId: job.image.id, durationMs, ...end });
  }

  private report(job: Job, timeline: Timeline, phase: BakePhase, percent?: number): void {
    if (job.progress.phase !== phase) timeline.step(phase);
    const elapsedMs = Math.round(performance.now() - job.startedAt);
    job.progress = { imageId: job.image.id, phase, elapsedMs, ...(percent !== undefined && { percent }) };
    this.parts.onProgress?.(job.progress);
    for (const listener of job.listeners) listener(job.progress);
  }
}

/** What one server asks of the image's signature, or may not read, says nothing about the image for others. */
function isForOneServerOnly({ trust }: ImageSpec, error: unknown): boolean {
  return (
    trust !== undefined &&
    (error instanceof CertificateValidationFailed || error instanceof SignatureVerificationError)
  );
}
