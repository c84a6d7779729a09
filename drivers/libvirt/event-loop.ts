/**
 * libvirt's event loop: the thread that reads what the daemon sends unasked (events, keepalive answers, hang-ups).
 *
 * libvirt has one loop per process, kept here while somebody needs it. It occupies one thread of libuv's pool, and its
 * callbacks into JavaScript run on the main thread while that thread waits.
 */
import { binding } from './binding';

let users = 0;
let running: Promise<void> | undefined;
let wakeTimer: number | undefined;

/** Keeps the loop running until the returned function is called; that resolves once the loop stopped, if nobody else uses it. */
export function useEventLoop(): () => Promise<void> {
  const api = binding();
  users += 1;
  if (wakeTimer === undefined) {
    // A second registration in one process (tests load modules anew) is ignored by libvirt.
    api.virEventRegisterDefaultImpl();
    wakeTimer = api.virEventAddTimeout(-1, (timer) => api.virEventUpdateTimeout(timer, -1));
  }
  running ??= run();
  let released = false;
  return async () => {
    if (released) return;
    released = true;
    users -= 1;
    if (users > 0) return;
    if (wakeTimer !== undefined) api.virEventUpdateTimeout(wakeTimer, 0);
    await running;
  };
}

/** A function, so that the compiler does not take the count for constant. */
function inUse(): boolean {
  return users > 0;
}

async function run(): Promise<void> {
  const api = binding();
  while (inUse()) {
    if ((await api.virEventRunDefaultImpl()) < 0) throw new Error('The libvirt event loop failed');
  }
  running = undefined;
}
