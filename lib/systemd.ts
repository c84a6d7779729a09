/**
 * Words to systemd (sd_notify), for a unit of Type=notify: that the service is up, what it is doing, that it stops. Node has
 * no datagram sockets of the file system, so systemd's own program sends them; without systemd nothing happens.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describeError } from './exceptions';
import type { Logger } from './log';

const TIMEOUT_MS = 5_000;

/** @param state such as `READY=1` or `STATUS=...` (sd_notify(3)) */
export async function notifySystemd(logger: Logger, ...state: readonly string[]): Promise<void> {
  if (process.env.NOTIFY_SOCKET === undefined) return;
  try {
    await promisify(execFile)('systemd-notify', [`--pid=${process.pid}`, ...state], { timeout: TIMEOUT_MS });
  } catch (error) {
    logger.warn(`systemd was not told ${state.join(' ')}: ${describeError(error)}`);
  }
}
