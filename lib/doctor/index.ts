/** `prebake doctor`: every precondition of the service on this host, by name, with the fix. Looks, changes nothing. */
export { amqpCheck, conductorCheck, soleServiceCheck, type BrokerTls } from './broker-checks';
export { cacheCheck, type ListedCache } from './cache-check';
export { fail, ok, skip, warn, type Check, type Finding, type FindingState } from './check';
export {
  clockCheck,
  discoveryCheck,
  glanceCheck,
  keystoneCheck,
  neutronAgentCheck,
  placementCheck,
  type CloudLogin,
  type OpenLogin,
} from './cloud-checks';
export { examine, type DoctorReport, type Result } from './examine';
export { hookCheck } from './hook-check';
export {
  diskCheck,
  memoryCheck,
  programsCheck,
  rootCheck,
  zstdCheck,
  type HostExpectations,
} from './host-checks';
export {
  formatVersion,
  kvmCheck,
  libvirtCheck,
  qemuCheck,
  qemuUserCheck,
  type Hypervisor,
} from './hypervisor-checks';
export { thisMachine, type Machine, type MachineProcess } from './machine';
export { serviceCheck } from './service-check';
