/** What Neutron says against making or binding a port, in Nova's exceptions. */
import { PortBindingFailed, PortInUse } from '../../exceptions';
import { isHttpError, type NeutronPort } from '../../openstack';
import { FixedIpAlreadyInUse, InvalidInput, NoMoreFixedIps, PortLimitExceeded } from './exceptions';

/** Runs a call to Neutron about a port on `networkId` and translates its failure. */
export async function portCall<T>(
  about: { readonly networkId: string; readonly address?: string | null },
  call: () => Promise<T>,
): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw translate(error, about.networkId, about.address ?? null);
  }
}

/** @throws PortBindingFailed */
export function requireBound(port: NeutronPort): NeutronPort {
  if (port['binding:vif_type'] !== 'binding_failed') return port;
  throw new PortBindingFailed(
    `Binding failed for port ${port.id}, please check neutron logs for more information.`,
  );
}

function translate(error: unknown, networkId: string, address: string | null): unknown {
  if (!isHttpError(error)) return error;
  const cause = { cause: error };
  switch (error.errorType ?? '') {
    case 'OverQuota':
      return new PortLimitExceeded('Maximum number of ports exceeded', cause);
    case 'IpAddressGenerationFailure':
      return new NoMoreFixedIps(`No fixed IP addresses available for network: ${networkId}`, cause);
    case 'IpAddressInUse':
    case 'IpAddressAlreadyAllocated':
      return new FixedIpAlreadyInUse(`Fixed IP ${address ?? ''} is already in use.`, cause);
    case 'InvalidIpForNetwork':
    case 'InvalidIpForSubnet':
      return new InvalidInput(
        `Fixed IP ${address ?? ''} is not a valid ip address for network ${networkId}.`,
        cause,
      );
    case 'MacAddressInUse':
      return new PortInUse(`A port's MAC address is already in use on network ${networkId}.`, cause);
    default:
      return error;
  }
}
