/** What Nova asks of a host: the compute service, driver-independent. */
export { createComputeService, type ComputeServiceSurroundings } from './assemble';
export { type ComputeService, StillBusy } from './service';
