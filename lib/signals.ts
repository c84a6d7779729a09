/** What the signals of an operator or of systemd mean: stop in peace, stop now, read the configuration again. */

/** Who acts on them. */
export interface SignalHandlers {
  /** The first SIGTERM or SIGINT. */
  readonly stop: (signal: NodeJS.Signals) => void;
  /** Any after it. */
  readonly endNow: (signal: NodeJS.Signals) => void;
  /** SIGHUP. One that comes while an earlier one is acted on is acted on afterwards. */
  readonly reload: () => Promise<void>;
}

/** Listens for signals from now on. */
export function handleSignals({ stop, endNow, reload }: SignalHandlers): void {
  let stopping = false;
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      if (stopping) endNow(name);
      else stop(name);
      stopping = true;
    });
  }
  let reloading = Promise.resolve();
  process.on('SIGHUP', () => {
    reloading = reloading.then(reload);
  });
}
