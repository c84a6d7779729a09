/** Public face of the libvirt driver. */
export { LibvirtConnection, type ConnectionOptions, type ConnectionState } from './connection';
export { Domain, DomainState, MonitorError, type Affect } from './domain';
export type { DomainEvent } from './domain-events';
export { LibvirtError, ErrorCode, isLibvirtError } from './libvirt-error';
