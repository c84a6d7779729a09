/** A server's networks, as Nova's compute manager asks for them. */
export * from './exceptions';
export { buildNetworkInfo, type NetworkRecords } from './network-info';
export { requestedNetworks, type RequestedNetworks, type RequestedNic } from './requested';
export {
  ServerNetworks,
  type AllocationRequest,
  type AttachRequest,
  type NetworkedServer,
  type Requester,
} from './server-networks';
