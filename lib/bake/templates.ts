/** Decides which µVM, if any, a server starts from, and asks for bakes of what is missing. */
import type { FlavorSpec, ImageSpec, UvmTemplate } from '../../drivers/driver';

/** A µVM to start from, or in words why there is none. */
export type TemplateChoice = { readonly uvm: UvmTemplate } | { readonly none: string };

/** Chooses µVMs for boots. */
export abstract class Templates {
  /** Materialises the µVM of the image if the flavor can be made from it. Never rejects: whatever fails is a reason to boot cold. */
  abstract find(image: ImageSpec, flavor: FlavorSpec): Promise<TemplateChoice>;
  /** Queues a bake of this image if it has no µVM and policy allows; returns at once. */
  abstract wanted(image: ImageSpec): void;
}
