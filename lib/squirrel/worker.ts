/** Entry of a worker thread: runs one task at a time and posts progress and the result, or the error in parts. */
import { constants, getPriority, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { CacheClosing, DamagedFile, ImageMissing, UnsupportedFormat } from './errors';
import { TASKS, type TaskName, type Tasks } from './tasks';

/** What a worker is started with. */
export interface WorkerOptions {
  /** How much more it yields to others than the process does, as nice(1) has it. */
  readonly niceness: number;
  /** 1 when tasks are to end as soon as they can. */
  readonly closing: Int32Array;
}

/** What the pool posts. */
export type WorkerRequest = { [Name in TaskName]: { name: Name; input: Tasks[Name]['input'] } }[TaskName];

/** What a worker posts. Classes do not survive the way between threads, so errors are taken apart. */
export type WorkerMessage =
  | { kind: 'progress'; percent: number }
  | { kind: 'result'; value: unknown }
  | { kind: 'damaged'; path: string; problem: string }
  | { kind: 'unsupported'; path: string; found: string; expected: string }
  | { kind: 'imageMissing'; path: string }
  | { kind: 'error'; message: string; code: string | undefined };

function describe(error: unknown): WorkerMessage {
  if (error instanceof DamagedFile) return { kind: 'damaged', path: error.path, problem: error.problem };
  if (error instanceof UnsupportedFormat) {
    return { kind: 'unsupported', path: error.path, found: error.found, expected: error.expected };
  }
  if (error instanceof ImageMissing) return { kind: 'imageMissing', path: error.path };
  if (error instanceof Error) {
    return { kind: 'error', message: error.message, code: (error as NodeJS.ErrnoException).code };
  }
  return { kind: 'error', message: String(error), code: undefined };
}

function run<Name extends TaskName>(name: Name, input: Tasks[Name]['input']): Tasks[Name]['output'] {
  return TASKS[name](input, (percent) => {
    if (Atomics.load(closing, 0) !== 0) throw new CacheClosing();
    post({ kind: 'progress', percent });
  });
}

function post(message: WorkerMessage): void {
  parentPort?.postMessage(message);
}

const { niceness, closing } = workerData as WorkerOptions;
// On Linux, process 0 is the calling thread.
if (niceness > 0) setPriority(0, Math.min(getPriority(0) + niceness, constants.priority.PRIORITY_LOW));

parentPort?.on('message', (request: WorkerRequest | null) => {
  if (request === null) {
    parentPort?.close();
    return;
  }
  try {
    post({ kind: 'result', value: run(request.name, request.input) });
  } catch (error) {
    post(describe(error));
  }
});
