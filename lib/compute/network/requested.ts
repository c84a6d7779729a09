/** What a boot request says about networks (nova/objects/network_request.py), as a plain value. */
import { NetworkRequest, NovaObjectList, type NovaObject } from '../../objects';

/** One NIC that was asked for: on a network, or by a port of the user's own. */
export type RequestedNic =
  | {
      readonly networkId: string;
      readonly address: string | null;
      readonly portId: null;
      readonly tag: string | null;
    }
  | { readonly portId: string; readonly tag: string | null };

/** `any`: nothing was said, so the only usable network is taken; `auto`: one is made if there is none. */
export type RequestedNetworks =
  | { readonly kind: 'none' }
  | { readonly kind: 'any' }
  | { readonly kind: 'auto' }
  | { readonly kind: 'these'; readonly nics: readonly RequestedNic[] };

/** Reads a `NetworkRequestList`; null and an empty list say nothing. @throws ObjectFieldError */
export function requestedNetworks(list: NovaObject | null): RequestedNetworks {
  const requests = list instanceof NovaObjectList ? list.itemsOf(NetworkRequest) : [];
  const [first] = requests;
  if (requests.length === 1 && first?.networkId === 'none') return { kind: 'none' };
  if (requests.length === 1 && first?.networkId === 'auto') return { kind: 'auto' };
  const nics: RequestedNic[] = [];
  for (const { networkId, portId, address, tag } of requests) {
    if (portId !== null) nics.push({ portId, tag });
    else if (networkId !== null) nics.push({ networkId, address, portId: null, tag });
  }
  return nics.length === 0 ? { kind: 'any' } : { kind: 'these', nics };
}

/** The user's own ports among what was asked for: they outlive the server. */
export function requestedPortIds(requested: RequestedNetworks): readonly string[] {
  if (requested.kind !== 'these') return [];
  return requested.nics.map((nic) => nic.portId).filter((portId) => portId !== null);
}
