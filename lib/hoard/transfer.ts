/** What sending and fetching of µVMs have in common: who hears of the bytes, and how fast they may be. */
import type { Pace } from './pace';

/** How far a transfer is; `doneBytes` counts what did not have to be sent, too. */
export interface TransferProgress {
  readonly key: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** That went over the network. */
  readonly sentBytes: number;
}

/** How a transfer ended. */
export interface Transfer {
  readonly key: string;
  readonly totalBytes: number;
  /** That went over the network: the rest was there already. */
  readonly sentBytes: number;
}

export interface TransferOptions {
  readonly pace: Pace;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TransferProgress) => void) | undefined;
}
