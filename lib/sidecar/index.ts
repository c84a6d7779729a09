/** What an operator's tools ask the running service: is it well, how fast is it, what did the last boots do. */
export { BakeRecorder } from './bake-recorder';
export { BootRecorder } from './boot-recorder';
export type { Boot, BootOutcome, BootSubject, BootView } from './boot-recorder';
export { watchEventLoop } from './event-loop';
export { Metrics } from './metrics';
export { metricsReference } from './metrics-reference';
export type { GaugeSource } from './metrics';
export type { CheckResult, ReadinessCheck, ReadinessReport } from './readiness';
export { createSidecar, sidecarUrl } from './server';
export type { Sidecar, SidecarOptions } from './server';
