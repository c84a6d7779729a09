/** Nova's versioned objects: reading, changing and storing them through the conductor. */
export { BlockDeviceMapping } from './block-device-mapping';
export { ComputeNode, HVSpec } from './compute-node';
export { Conductor, type ConductorTransport } from './conductor';
export { ConductorAnswerError, ObjectFieldError, UnexpectedObjectError } from './errors';
export {
  DiskMetadata,
  IDEDeviceBus,
  InstanceDeviceMetadata,
  NetworkInterfaceMetadata,
  PCIDeviceBus,
  SCSIDeviceBus,
  USBDeviceBus,
} from './device-metadata';
export {
  CpuDiagnostics,
  Diagnostics,
  DiskDiagnostics,
  MemoryDiagnostics,
  NicDiagnostics,
} from './diagnostics';
export { Flavor } from './flavor';
export { Instance, InstanceFault, InstanceInfoCache, KeyPair, VirtualInterface } from './instance';
export { Migration, MigrationContext } from './migration';
export {
  networkInfoSchema,
  parseNetworkInfo,
  serialiseNetworkInfo,
  type FixedIp,
  type Network,
  type NetworkInfo,
  type Subnet,
  type Vif,
} from './network-model';
export {
  createObject,
  NovaObject,
  NovaObjectList,
  type ObjectClass,
  type ObjectParts,
  type ObjectPrimitive,
} from './nova-object';
export { novaTime, serialise } from './primitive';
export { deserialise, expectObject } from './registry';
export { ConsoleAuthToken, InstanceExternalEvent, NetworkRequest } from './requests';
export { ImageMeta, ImageMetaProps, RequestSpec } from './request-spec';
export { Service } from './service';
export { TaskLog } from './task-log';
export { OBJECT_VERSIONS } from './versions';
