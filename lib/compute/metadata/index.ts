/** What a server's guest is told about itself. */
export { buildIdentity, noteConfigDrive, type IdentityRequest } from './identity';
export { networkData, type NetworkData } from './network-data';
export { blockDeviceMapping } from './block-devices';
