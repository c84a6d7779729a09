/** Making µVMs of images, choosing them for boots, and talking to what runs inside them. */
export { BAKE_NIC_MAC, bakeDriveFiles, GATE_VERSION } from './bake-drive';
export { BAKE_PHASES } from './bake-run';
export type { BakePhase } from './bake-run';
export { BakeError, Baker } from './baker';
export type { BakeConfig, BakeEnd, BakeOptions, BakeProgress, BakerParts } from './baker';
export { BakeFailures } from './failures';
export type { BakeFailure } from './failures';
export { GateClient } from './gate';
export type { GateCall, Identification, StepsMs } from './gate';
export { GateClosed, GateError, GateProtocolError, GateStepFailed, GateTimeout } from './gate-errors';
export type { GateAnswers, GateHello } from './gate-protocol';
export { buildIdentifyMessage } from './identify';
export type { GuestInterface, GuestResources, IdentifyMessage } from './identify';
export { ProofFailed } from './proof';
export { Templates } from './templates';
export type { TemplateChoice, TemplatesParts } from './templates';
export { ImageUnsuitable } from './unsuitable';
export { HOTPLUG_STEP_MB } from './uvm-key';
