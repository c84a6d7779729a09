/** Making µVMs of images and choosing them for boots. */
export { BAKE_PHASES, BakeError, Baker } from './baker';
export type { BakeOptions, BakePhase, BakeProgress, BakerParts, BakeSettings } from './baker';
export { Templates } from './templates';
export type { TemplateChoice } from './templates';
