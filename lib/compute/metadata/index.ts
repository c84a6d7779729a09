/** What a server's guest is told about itself. */
export { deviceList } from './devices';
export { buildIdentity, noteConfigDrive, type IdentityRequest } from './identity';
export { networkData, type NetworkData } from './network-data';
export { blockDeviceMapping, diskBus, diskPrefix } from './block-devices';
