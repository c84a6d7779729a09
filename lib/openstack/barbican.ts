/** Secrets as Barbican keeps them (its v1 API), in the name of a user or of the service itself. */
import { z } from 'zod';
import { UnexpectedAnswer } from './errors';
import { pathSegment, type KeystoneSession } from './keystone';
import type { EndpointOptions } from './options';
import { ServiceClient } from './service-client';

/** A secret and what its owner says it is. */
export interface BarbicanSecret {
  readonly id: string;
  /** `certificate`, `passphrase`, `opaque` ... */
  readonly type: string;
  readonly payload: string;
}

const SecretAnswer = z.looseObject({
  secret_type: z.string(),
  content_types: z.record(z.string(), z.string()).nullish(),
});

/** A client of Barbican; every call rejects with the errors of a service call. */
export class Barbican {
  private readonly client: ServiceClient;

  constructor(session: KeystoneSession, endpoint: EndpointOptions = {}, client?: ServiceClient) {
    this.client = client ?? new ServiceClient(session, 'key-manager', endpoint);
  }

  /** The same secrets as the user whose token this is sees them; as the service itself for null. */
  asUser(userToken: string | null): Barbican {
    if (userToken === null) return this;
    return new Barbican(this.client.session, {}, this.client.asUser(userToken));
  }

  /** A secret that is text, as certificates in PEM and passphrases are. */
  async get(id: string, signal?: AbortSignal): Promise<BarbicanSecret> {
    const path = secretPath(id);
    const record = await this.client.request(SecretAnswer, { method: 'GET', path, signal });
    const payloadCall = {
      method: 'GET',
      path: `${path}/payload`,
      headers: { Accept: record.content_types?.default ?? 'application/octet-stream' },
      signal,
    } as const;
    const { body } = await this.client.send(payloadCall);
    if (typeof body !== 'string') {
      throw new UnexpectedAnswer('GET', payloadCall.path, 'the payload is no text');
    }
    return { id, type: record.secret_type, payload: body };
  }
}

function secretPath(id: string): string {
  return `/v1/secrets/${pathSegment(id)}`;
}
