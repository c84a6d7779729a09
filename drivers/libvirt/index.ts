/** Public face of the libvirt driver. */
export { LibvirtConnection, type ConnectionOptions, type ConnectionState } from './connection';
export { Domain, DomainState, MonitorError, type Affect } from './domain';
export type { DomainEvent } from './domain-events';
export { LibvirtError, ErrorCode, isLibvirtError } from './libvirt-error';
export { LibvirtDriver, type DriverOptions } from './driver';
export { readConfinement, readHostCapabilities, type HostCapabilities } from './host-capabilities';
export type { BaseImage, ImageCache, ImageSource } from './image-cache';
export { inspectImage, type InspectedImage } from './image-inspector';
export type { InstancePaths, InstanceStore } from './instance-store';
export { probeAccelerator } from './kvm-probe';
export { cpuMode, type DriverSettings } from './settings';
export type { DriverParts, UvmEngine } from './uvm-engine';
