/** Decides which µVM, if any, a server starts from, and asks for bakes of what is missing. */
import type { Logger } from 'pino';
import type { FlavorSpec, ImageSpec, UvmTemplate } from '../../drivers/driver';
import { describeError } from '../exceptions';
import type { Squirrel } from '../squirrel';
import type { BakeConfig, Baker } from './baker';
import { flavorObstacle, imageObstacle } from './suitability';

/** A µVM to start from, or in words why there is none. */
export type TemplateChoice = { readonly uvm: UvmTemplate } | { readonly none: string };

/** What the choice depends on. */
export interface TemplatesParts {
  readonly squirrel: Squirrel;
  readonly baker: Pick<Baker, 'bake' | 'keyOf'>;
  readonly config: BakeConfig;
  readonly logger: Logger;
}

/** Chooses µVMs for boots. */
export class Templates {
  /** µVMs whose bake failed: not tried again by itself before the service restarts. */
  private readonly failed = new Map<string, string>();

  private constructor(private readonly parts: TemplatesParts) {}

  static create(parts: TemplatesParts): Templates {
    return new Templates(parts);
  }

  /**
   * The µVM of the image, written out, if the flavor can be made from it. Never rejects: whatever fails is a reason to boot
   * cold.
   */
  async find(image: ImageSpec, flavor: FlavorSpec): Promise<TemplateChoice> {
    const { squirrel, baker, logger } = this.parts;
    const obstacle = imageObstacle(image);
    if (obstacle !== undefined) return { none: obstacle };
    try {
      const key = await baker.keyOf(image);
      const manifest = await squirrel.find(key);
      if (manifest === undefined) return { none: await this.whyNone(key) };
      const misfit = flavorObstacle(flavor, manifest.memoryMb, manifest.platform);
      if (misfit !== undefined) return { none: misfit };
      return { uvm: await squirrel.materialise(key) };
    } catch (error) {
      logger.error({ err: error, image: image.id }, 'no µVM for this boot');
      return { none: `its µVM cannot be used: ${describeError(error)}` };
    }
  }

  /** Has the image baked if it has no µVM and nothing speaks against it; returns at once. */
  wanted(image: ImageSpec): void {
    if (this.parts.config.prebake.bake === 'never' || imageObstacle(image) !== undefined) return;
    this.bakeIfMissing(image).catch((error: unknown) =>
      this.parts.logger.warn({ image: image.id }, `no µVM: ${describeError(error)}`),
    );
  }

  private async bakeIfMissing(image: ImageSpec): Promise<void> {
    const { squirrel, baker } = this.parts;
    const key = await baker.keyOf(image);
    if (this.failed.has(key)) return;
    // One that cannot be read is baked anew.
    const present = await squirrel.find(key).catch(() => undefined);
    if (present !== undefined) return;
    try {
      await baker.bake(image);
    } catch (error) {
      this.failed.set(key, describeError(error));
      throw error;
    }
  }

  private async whyNone(key: string): Promise<string> {
    const failure = this.failed.get(key) ?? (await this.parts.squirrel.quarantined(key));
    return failure === undefined ? 'the image has no µVM yet' : `the image has no µVM: ${failure}`;
  }
}
