/** How a call can fail, as classes. */

/** The exception of a remote service, as it was sent. */
export class RemoteError extends Error {
  /** Class over there: `ComputeHostNotFound`. */
  readonly remoteClass: string;
  /** Its Python module: `nova.exception`, `nova.exception_Remote` when it was passed on. */
  readonly remoteModule: string;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  /** Python's traceback, for logs. */
  readonly traceback: readonly string[];

  constructor(failure: {
    readonly remoteClass: string;
    readonly remoteModule: string;
    readonly message: string;
    readonly args: readonly unknown[];
    readonly kwargs: Readonly<Record<string, unknown>>;
    readonly traceback: readonly string[];
  }) {
    super(failure.message === '' ? failure.remoteClass : failure.message);
    this.name = 'RemoteError';
    this.remoteClass = failure.remoteClass;
    this.remoteModule = failure.remoteModule;
    this.args = failure.args;
    this.kwargs = failure.kwargs;
    this.traceback = failure.traceback;
  }
}

/** Whether `error` is a remote exception, and, with a class, whether it is that one. */
export function isRemoteError(error: unknown, remoteClass?: string): error is RemoteError {
  return error instanceof RemoteError && (remoteClass === undefined || error.remoteClass === remoteClass);
}

/** No answer, or no sign of life, or no way to the broker, in time. */
export class MessagingTimeout extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'MessagingTimeout';
  }
}

/** Nobody listens where the message was to go. */
export class MessageUndeliverable extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'MessageUndeliverable';
  }
}

/** The messaging was closed. */
export class MessagingClosed extends Error {
  constructor(message = 'messaging is closed') {
    super(message);
    this.name = 'MessagingClosed';
  }
}

/** A message that is not what oslo.messaging sends; the text says why. */
export class MalformedMessage extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'MalformedMessage';
  }
}

/** `transport_url` cannot be understood. The text has no passwords. */
export class TransportUrlError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TransportUrlError';
  }
}
