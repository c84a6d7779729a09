/** Nova's exceptions about a server's networks that nothing outside of this folder raises (nova/exception.py). */
import { NovaException } from '../../exceptions';

/** No network was named and there are several. */
export class NetworkAmbiguous extends NovaException {
  override readonly code = 400;
}
/** The user may not attach a server to this external network. */
export class ExternalNetworkAttachForbidden extends NovaException {
  override readonly code = 403;
}
/** The port belongs to another project. */
export class PortNotUsable extends NovaException {
  override readonly code = 400;
}
/** The port has a DNS name that is not the server's hostname. */
export class PortNotUsableDNS extends NovaException {
  override readonly code = 400;
}
/** The project's quota of ports is used up. */
export class PortLimitExceeded extends NovaException {
  override readonly code = 403;
}
/** The network has no free address. */
export class NoMoreFixedIps extends NovaException {}
/** The address that was asked for is taken. */
export class FixedIpAlreadyInUse extends NovaException {
  override readonly code = 400;
}
/** Something the user asked for makes no sense to Neutron. */
export class InvalidInput extends NovaException {
  override readonly code = 400;
}
/** The project has no such security group. */
export class SecurityGroupNotFound extends NovaException {
  override readonly code = 404;
}
/** Several security groups have the name that was given. */
export class NoUniqueMatch extends NovaException {
  override readonly code = 409;
}
/** The network cannot carry security groups: no subnet, or port security is off. */
export class SecurityGroupCannotBeApplied extends NovaException {
  override readonly code = 400;
}
/** Neutron could not make a network for the project. */
export class UnableToAutoAllocateNetwork extends NovaException {}
