/** Clients of the cloud's other services: Keystone, Glance, Neutron, Placement, Barbican. */
export { HttpError, isHttpError, RequestTimeout, ServiceUnreachable, UnexpectedAnswer } from './errors';
export type { AuthOptions, EndpointOptions } from './options';
export { EndpointNotFound, KeystoneSession } from './keystone';
export { Barbican, type BarbicanSecret } from './barbican';
export { DownloadTruncated, type BytesCheck, type DownloadProgress } from './download';
export { Glance, type DownloadOptions, type GlanceImage } from './glance';
export { ObjectRefused, ObjectStore } from './object-store';
export type { GetOptions, ObjectRecord, PutOptions } from './object-store';
export { Neutron, type NeutronFilter, type PortFields } from './neutron';
export type {
  NeutronFloatingIp,
  NeutronNetwork,
  NeutronPort,
  NeutronSecurityGroup,
  NeutronSubnet,
} from './neutron-records';
export { InventoryInUse, Placement, ProviderNameTaken } from './placement';
export type { ConsumerAllocations, Inventory, ResourceProvider, Resources } from './placement-records';
