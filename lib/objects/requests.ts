/** Small objects that come with a request or are made to answer one. */
import { nullableText, text } from './fields';
import { NovaObject } from './nova-object';

/** One network a user asked for (nova/objects/network_request.py). */
export class NetworkRequest extends NovaObject {
  static readonly className = 'NetworkRequest';

  /** A network's UUID, or `auto` or `none`. */
  get networkId(): string | null {
    return this.read('network_id', nullableText);
  }
  /** A fixed address that was asked for. */
  get address(): string | null {
    return this.read('address', nullableText);
  }
  /** A port of the user's own. */
  get portId(): string | null {
    return this.read('port_id', nullableText);
  }
  get tag(): string | null {
    return this.has('tag') ? this.read('tag', nullableText) : null;
  }
}

/** Something that happened to a server elsewhere, mostly in Neutron (nova/objects/external_event.py). */
export class InstanceExternalEvent extends NovaObject {
  static readonly className = 'InstanceExternalEvent';

  get instanceUuid(): string {
    return this.read('instance_uuid', text);
  }
  /** network-vif-plugged, network-changed, network-vif-unplugged ... */
  get name(): string {
    return this.read('name', text);
  }
  get status(): string {
    return this.read('status', text);
  }
  /** Of network events: the port. */
  get tag(): string | null {
    return this.read('tag', nullableText);
  }
}

/** Leave to open a console; the conductor makes the token (nova/objects/console_auth_token.py). */
export class ConsoleAuthToken extends NovaObject {
  static readonly className = 'ConsoleAuthToken';

  get token(): string {
    return this.read('token', text);
  }
  /** Where the user's browser goes: the base URL and the token, as Nova puts them together. */
  get accessUrl(): string {
    const base = this.read('access_url_base', text);
    return this.read('console_type', text) === 'novnc'
      ? `${base}?path=${encodeURIComponent(`?token=${this.token}`)}`
      : `${base}?token=${this.token}`;
  }
}
