/** oslo.messaging's RPC over RabbitMQ: serving a topic, calling others, surviving the broker's restarts. */
export { RequestContext } from './context';
export {
  isRemoteError,
  MalformedMessage,
  MessageUndeliverable,
  MessagingClosed,
  MessagingTimeout,
  RemoteError,
  TransportUrlError,
} from './errors';
export { Messaging } from './messaging';
export { NotificationListener } from './notifications';
export type { Notification, NotificationOptions } from './notifications';
export { type BrokerAddress, type BrokerHost, connectOptions, parseTransportUrl } from './transport-url';
export type {
  CallOptions,
  CastOptions,
  Endpoint,
  IncomingCall,
  MessagingOptions,
  MessagingState,
  RpcHandler,
  RpcServer,
  ServeOptions,
  Target,
  TlsOptions,
} from './types';
