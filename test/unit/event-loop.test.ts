/** How turns of the event loop that take too long are seen, by a clock that the test sets. */
import { setImmediate as turn } from 'node:timers/promises';
import { BLOCKED_MS, watchEventLoop } from '../../lib/sidecar/event-loop';

function watched() {
  const clock = { now: 0, idle: 0, nowMs: () => clock.now, idleMs: () => clock.idle };
  const reports: number[] = [];
  const end = watchEventLoop((durationMs) => reports.push(durationMs), clock);
  /** Lets the loop turn, which takes so long and waits for so long. */
  const pass = async (busyMs: number, idleMs = 0): Promise<void> => {
    clock.now += busyMs + idleMs;
    clock.idle += idleMs;
    await turn();
  };
  return { reports, end, pass };
}

test('a turn that takes long is reported, with the time it took', async () => {
  const { reports, end, pass } = watched();
  await pass(BLOCKED_MS);
  await pass(1200, 3000);
  end();
  expect(reports).toEqual([BLOCKED_MS, 1200]);
});

test('short turns are not, however many, and neither is waiting', async () => {
  const { reports, end, pass } = watched();
  for (let count = 0; count < 10; count += 1) await pass(BLOCKED_MS - 1);
  await pass(0, 60_000);
  await pass(1, 60_000);
  end();
  expect(reports).toEqual([]);
});

test('nothing is reported after the end', async () => {
  const { reports, end, pass } = watched();
  end();
  await pass(1000);
  expect(reports).toEqual([]);
});

test('by the real clock, too', async () => {
  const reports: number[] = [];
  const end = watchEventLoop((durationMs) => reports.push(durationMs));
  await turn();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCKED_MS + 1);
  await turn();
  end();
  expect(Math.max(...reports)).toBeGreaterThanOrEqual(BLOCKED_MS);
});
