/** One service of the cloud as one user: what Glance, Neutron and Placement share. */
import { z } from 'zod';
import { UnexpectedAnswer } from './errors';
import type { KeystoneSession, ServiceCall } from './keystone';
import type { EndpointOptions } from './options';
import type { HttpAnswer, HttpStream } from './transport';

/** Sends calls to one service and checks what comes back. */
export class ServiceClient {
  constructor(
    readonly session: KeystoneSession,
    readonly serviceType: string,
    private readonly endpoint: EndpointOptions = {},
    private readonly userToken?: string,
  ) {}

  /** Is logged in, with a token that lasts. */
  async logIn(): Promise<void> {
    await this.session.token();
  }

  /** The same service in the name of the user whose token this is. */
  asUser(userToken: string): ServiceClient {
    return new ServiceClient(this.session, this.serviceType, this.endpoint, userToken);
  }

  /** Sends a call and returns its checked body. @throws as KeystoneSession.send */
  async request<T>(schema: z.ZodType<T>, call: ServiceCall): Promise<T> {
    const answer = await this.send(call);
    const parsed = schema.safeParse(answer.body);
    if (parsed.success) return parsed.data;
    throw new UnexpectedAnswer(call.method, call.path, z.prettifyError(parsed.error).replace(/\s+/g, ' '));
  }

  /** Sends a call whose body does not matter. @throws as KeystoneSession.send */
  async send(call: ServiceCall): Promise<HttpAnswer> {
    return this.session.send(this.serviceType, this.endpoint, { userToken: this.userToken, ...call });
  }

  async stream(call: ServiceCall): Promise<HttpStream> {
    return this.session.stream(this.serviceType, this.endpoint, { userToken: this.userToken, ...call });
  }
}
