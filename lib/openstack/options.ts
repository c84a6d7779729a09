/**
 * What a client of an OpenStack service has to be told, as keystoneauth's options in nova.conf say it: who to be
 * (`AuthOptions`) and which of a service's endpoints to talk to (`EndpointOptions`).
 */

/** Password authentication against Keystone's v3 API; a domain by id wins over one by name. */
export interface AuthOptions {
  /** With or without `/v3` at the end. */
  readonly authUrl: string;
  readonly username?: string;
  readonly userId?: string;
  readonly password: string;
  readonly userDomainName?: string;
  readonly userDomainId?: string;
  readonly projectName?: string;
  readonly projectId?: string;
  readonly projectDomainName?: string;
  readonly projectDomainId?: string;
  /** PEM file with the CAs to trust instead of the system's. */
  readonly cafile?: string;
  /** Do not verify TLS certificates. */
  readonly insecure?: boolean;
  /** Of each HTTP request, until the whole answer is there; 60 s when not given. */
  readonly timeoutMs?: number;
}

/** Which endpoint of the catalogue to use. */
export interface EndpointOptions {
  /** In order of preference; `internal, public` when not given. */
  readonly validInterfaces?: readonly string[];
  /** Any region when not given. */
  readonly regionName?: string;
  /** Used instead of the catalogue. */
  readonly endpointOverride?: string;
  /** Calls are below the whole URL, API version included: the object store's has the account in it. */
  readonly keepVersion?: boolean;
}
