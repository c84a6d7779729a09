/** Remembers the bakes under way and the last ones that ended; and, from them, how long images take to boot cold. */
import type { BakeEnd, BakeProgress } from '../bake';

/** Ended bakes that are kept. */
const CAPACITY = 20;

/** A bake that ended. */
export type EndedBake = BakeEnd & {
  readonly endedAt: string;
};

/** Hears of all bakes of this process. */
export class BakeRecorder {
  private readonly underWay = new Map<string, BakeProgress>();
  private readonly past: EndedBake[] = [];
  private readonly bootBegan = new Map<string, number>();
  private readonly coldBoots = new Map<string, number>();

  progress(progress: BakeProgress): void {
    const { imageId, phase, elapsedMs } = progress;
    const before = this.underWay.get(imageId)?.phase;
    if (phase === 'boot' && before !== 'boot') this.bootBegan.set(imageId, elapsedMs);
    const began = this.bootBegan.get(imageId);
    if (before === 'boot' && phase !== 'boot' && began !== undefined) {
      this.coldBoots.set(imageId, elapsedMs - began);
    }
    this.underWay.set(imageId, progress);
  }

  ended(end: BakeEnd): void {
    this.underWay.delete(end.imageId);
    this.bootBegan.delete(end.imageId);
    this.past.unshift({ ...end, endedAt: new Date().toISOString() });
    this.past.length = Math.min(this.past.length, CAPACITY);
  }

  current(): BakeProgress[] {
    return [...this.underWay.values()];
  }

  /** Newest first. */
  recent(): EndedBake[] {
    return [...this.past];
  }

  /** What the first step of a bake took, a stock cold boot of the image until cloud-init was done; null when none was seen. */
  coldBootMs(imageId: string): number | null {
    return this.coldBoots.get(imageId) ?? null;
  }
}
