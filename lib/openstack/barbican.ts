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

const StoreAnswer = z.looseObject({ secret_ref: z.string() });

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

  /** Keeps a text. @returns the ID of the secret */
  async store(
    { name, type, payload }: Omit<BarbicanSecret, 'id'> & { readonly name: string },
    signal?: AbortSignal,
  ): Promise<string> {
    const body = { name, secret_type: type, payload, payload_content_type: 'text/plain' };
    const call = { method: 'POST', path: '/v1/secrets', body, signal } as const;
    const { secret_ref: ref } = await this.client.request(StoreAnswer, call);
    return ref.slice(ref.lastIndexOf('/') + 1);
  }

  /** Rejects with status 404 when there is no such secret. */
  async delete(id: string, signal?: AbortSignal): Promise<void> {
    await this.client.send({ method: 'DELETE', path: secretPath(id), signal });
  }
}

function secretPath(id: string): string {
  return `/v1/secrets/${pathSegment(id)}`;
}
