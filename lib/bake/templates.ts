/** Decides which µVM, if any, a server starts from, and asks for bakes of what is missing. */
import type { Logger } from 'pino';
import type { ComputeDriver, FlavorSpec, ImageSpec, UvmTemplate } from '../../drivers/driver';
import { describeError } from '../exceptions';
import { ImageMissing, type Squirrel, type UvmManifest } from '../squirrel';
import type { BakeConfig, Baker } from './baker';
import { mayTryAgain } from './failures';
import { imagePolicy } from './image-policy';
import { flavorObstacle, imageObstacle } from './suitability';

/** A µVM to start from, or in words why there is none. */
export type TemplateChoice = { readonly uvm: UvmTemplate } | { readonly none: string };

/** What the choice depends on. */
export interface TemplatesParts {
  readonly squirrel: Squirrel;
  /** Bakes, or gets a µVM from where it was baked. */
  readonly baker: Pick<Baker, 'bake' | 'keyOf' | 'failures'>;
  readonly driver: Pick<ComputeDriver, 'cacheImage'>;
  readonly config: BakeConfig;
  readonly logger: Logger;
  /** Why no server of this host starts from a µVM, where that is so. */
  readonly obstacle?: string | undefined;
}

const DAY_MS = 24 * 60 * 60_000;

/** Chooses µVMs for boots. */
export class Templates {
  private constructor(private readonly parts: TemplatesParts) {}

  static create(parts: TemplatesParts): Templates {
    return new Templates(parts);
  }

  /**
   * The µVM of the image, written out, if the flavor can be made from it. One that is too old is offered until another has
   * taken its place, which this asks for. Never rejects: whatever fails is a reason to boot cold.
   */
  async find(image: ImageSpec, flavor: FlavorSpec, signal?: AbortSignal): Promise<TemplateChoice> {
    const { squirrel, baker, logger } = this.parts;
    const obstacle = this.obstacle(image);
    if (obstacle !== undefined) return { none: obstacle };
    try {
      const key = await baker.keyOf(image);
      const manifest = await squirrel.find(key);
      if (manifest === undefined) return { none: await this.whyNone(key) };
      const misfit = flavorObstacle(flavor, manifest.memoryMb, manifest.platform);
      if (misfit !== undefined) return { none: misfit };
      if (this.isTooOld(manifest)) this.wanted(image);
      return { uvm: await this.materialise(key, image, signal) };
    } catch (error) {
      logger.error({ err: error, image: image.id }, 'no µVM for this boot');
      return { none: `its µVM cannot be used: ${describeError(error)}` };
    }
  }

  /** One that came from another host may be here before its image is, which a cold boot would have to fetch as well. */
  private async materialise(
    key: string,
    image: ImageSpec,
    signal: AbortSignal | undefined,
  ): Promise<UvmTemplate> {
    const { squirrel, driver } = this.parts;
    try {
      return await squirrel.materialise(key);
    } catch (error) {
      if (!(error instanceof ImageMissing)) throw error;
      await driver.cacheImage(image, signal);
      return await squirrel.materialise(key);
    }
  }

  /** Has the image baked if it has no µVM, or an old one, and nothing speaks against it; returns at once. */
  wanted(image: ImageSpec): void {
    const { bake } = this.parts.config.prebake;
    if (bake === 'never' || this.obstacle(image) !== undefined) return;
    // Tags are not known here: an image that has only the tag gets its µVM from the sweep.
    if (bake === 'tagged' && imagePolicy(image).bake !== 'always') return;
    this.bakeIfMissing(image).catch((error: unknown) =>
      this.parts.logger.warn({ image: image.id }, `no µVM: ${describeError(error)}`),
    );
  }

  /** Why servers of this image never start from a µVM here. */
  private obstacle(image: ImageSpec): string | undefined {
    return this.parts.obstacle ?? imageObstacle(image);
  }

  private async bakeIfMissing(image: ImageSpec): Promise<void> {
    const { squirrel, baker } = this.parts;
    const key = await baker.keyOf(image);
    const failure = await baker.failures.find(key);
    if (failure !== undefined && !mayTryAgain(failure)) return;
    // One that cannot be read is baked anew.
    const present = await squirrel.find(key).catch(() => undefined);
    if (present !== undefined && !this.isTooOld(present)) return;
    await baker.bake(image);
  }

  private isTooOld({ bakedAt }: UvmManifest): boolean {
    const days = this.parts.config.prebake.uvmMaxAgeDays;
    return days > 0 && Date.now() - Date.parse(bakedAt) > days * DAY_MS;
  }

  private async whyNone(key: string): Promise<string> {
    const failure = await this.parts.baker.failures.find(key);
    const reason = failure?.reason ?? (await this.parts.squirrel.quarantined(key));
    return reason === undefined ? 'the image has no µVM yet' : `the image has no µVM: ${reason}`;
  }
}
