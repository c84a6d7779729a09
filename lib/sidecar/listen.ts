/** `host:port` as `[prebake] sidecar_listen` writes it. */

export interface ListenAddress {
  readonly host: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
}

/**
 * Reads `127.0.0.1:8790`, `[::1]:8790` or `localhost:8790`.
 * @throws RangeError that says what was expected
 */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw new RangeError(
      `'${text}' is not an address to listen on; expected host:port such as 127.0.0.1:8790`,
    );
  }
  return { host, port };
}
