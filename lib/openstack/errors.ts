/**
 * How a call to an OpenStack service fails. None of these errors carries a token, a password or a query string, not
 * even in its cause, so all of them may be logged as they are.
 */

/** The service answered with a status that the call cannot use. */
export class HttpError extends Error {
  /**
   * @param url without query and user info
   * @param serviceMessage what the service said, one line
   * @param errorType the service's own name for the error: Neutron's `NeutronError.type`, Placement's `code`
   */
  constructor(
    readonly method: string,
    readonly url: string,
    readonly status: number,
    readonly serviceMessage: string,
    readonly errorType: string | null = null,
  ) {
    super(
      `${method} ${url} was answered with ${status}${serviceMessage === '' ? '' : `: ${serviceMessage}`}`,
    );
    this.name = 'HttpError';
  }
}

/** No answer arrived: connection refused or broken, name not found, TLS failure. */
export class ServiceUnreachable extends Error {
  /** @param sent false when it is certain that the service never saw the request */
  constructor(
    readonly method: string,
    readonly url: string,
    readonly code: string,
    readonly sent: boolean,
    options?: ErrorOptions,
  ) {
    super(`${method} ${url} got no answer (${code})`, options);
    this.name = 'ServiceUnreachable';
  }
}

/** No answer arrived in time. */
export class RequestTimeout extends Error {
  constructor(
    readonly method: string,
    readonly url: string,
    readonly timeoutMs: number,
  ) {
    super(`${method} ${url} was not answered within ${timeoutMs} ms`);
    this.name = 'RequestTimeout';
  }
}

/** The answer is not what the API documents. */
export class UnexpectedAnswer extends Error {
  constructor(
    readonly method: string,
    readonly url: string,
    readonly problem: string,
  ) {
    super(`${method} ${url} was answered with something unexpected: ${problem}`);
    this.name = 'UnexpectedAnswer';
  }
}

/** Whether `error` is an answer with one of these statuses. */
export function isHttpError(error: unknown, ...statuses: readonly number[]): error is HttpError {
  return error instanceof HttpError && (statuses.length === 0 || statuses.includes(error.status));
}
