/** A few worker threads for the cache's heavy work: started when first needed, reused, and no reason to stay alive. */
import { availableParallelism } from 'node:os';
import { extname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { CacheClosing, DamagedFile, ImageMissing, SquirrelError, UnsupportedFormat } from './errors';
import type { TaskName, Tasks } from './tasks';
import type { WorkerMessage, WorkerOptions, WorkerRequest } from './worker';

const MAX_WORKERS = 4;
const EXTENSION = extname(__filename);
const ENTRY = join(__dirname, `worker${EXTENSION}`);
/** Run from sources, as tests do, a worker needs the same help as its parent to read TypeScript. */
const EXEC_ARGV =
  EXTENSION === '.ts' ? ['--require', join(__dirname, '../../test/register-typescript.cjs')] : [];

interface Job {
  readonly request: WorkerRequest;
  readonly onProgress: ((percent: number) => void) | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

function errorOf(message: Exclude<WorkerMessage, { kind: 'progress' | 'result' }>): Error {
  switch (message.kind) {
    case 'damaged':
      return new DamagedFile(message.path, message.problem);
    case 'unsupported':
      return new UnsupportedFormat(message.path, message.found, message.expected);
    case 'imageMissing':
      return new ImageMissing(message.path);
    case 'error':
      return Object.assign(new SquirrelError(message.message), { code: message.code });
  }
}

/** Has a thread end after the task that it is at. */
async function end(worker: Worker): Promise<void> {
  await new Promise((resolve) => {
    worker.once('exit', resolve);
    worker.ref();
    worker.postMessage(null);
  });
}

/** Worker threads with a queue in front of them. */
export class WorkerPool {
  readonly size = Math.min(MAX_WORKERS, availableParallelism());
  private readonly idle: Worker[] = [];
  private readonly busy = new Map<Worker, Job>();
  private readonly queue: Job[] = [];
  /** Int32: 1 when the pool is closed. */
  private readonly closing = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

  /** @param options.niceness how much the threads yield to others, as nice(1) has it */
  constructor(private readonly options: Omit<WorkerOptions, 'closing'> = { niceness: 0 }) {}

  /** Runs a task on the next free thread; rejects with the error the task threw. */
  run<Name extends TaskName>(
    name: Name,
    input: Tasks[Name]['input'],
    onProgress?: (percent: number) => void,
  ): Promise<Tasks[Name]['output']> {
    return new Promise<Tasks[Name]['output']>((resolve, reject) => {
      if (this.isClosed()) throw new CacheClosing();
      const request = { name, input } as WorkerRequest;
      this.queue.push({
        request,
        onProgress,
        resolve: resolve as (value: unknown) => void,
        reject,
      });
      this.dispatch();
    });
  }

  /**
   * Ends all threads; tasks in the queue are rejected, and those in hand when they next tell their progress. Nothing is
   * terminated: a thread that is in a native library then takes the process with it.
   */
  async close(): Promise<void> {
    Atomics.store(this.closing, 0, 1);
    for (const job of this.queue.splice(0)) job.reject(new CacheClosing());
    await Promise.all([...this.idle, ...this.busy.keys()].map((worker) => end(worker)));
  }

  private dispatch(): void {
    while (this.queue.length > 0) {
      const worker = this.idle.pop() ?? (this.busy.size < this.size ? this.start() : undefined);
      const job = worker && this.queue.shift();
      if (worker === undefined || job === undefined) return;
      this.busy.set(worker, job);
      worker.ref();
      worker.postMessage(job.request);
    }
  }

  private start(): Worker {
    const workerData: WorkerOptions = { ...this.options, closing: this.closing };
    const worker = new Worker(ENTRY, { execArgv: EXEC_ARGV, workerData });
    worker.on('message', (message: WorkerMessage) => this.onMessage(worker, message));
    worker.on('error', (error: Error) => this.onEnd(worker, error));
    worker.on('exit', (code) => this.onEnd(worker, new SquirrelError(`a worker thread ended (${code})`)));
    return worker;
  }

  private onMessage(worker: Worker, message: WorkerMessage): void {
    const job = this.busy.get(worker);
    if (message.kind === 'progress') {
      job?.onProgress?.(message.percent);
      return;
    }
    this.busy.delete(worker);
    this.idle.push(worker);
    worker.unref();
    if (message.kind === 'result') job?.resolve(message.value);
    else job?.reject(errorOf(message));
    this.dispatch();
  }

  private isClosed(): boolean {
    return Atomics.load(this.closing, 0) !== 0;
  }

  private onEnd(worker: Worker, error: Error): void {
    this.busy.get(worker)?.reject(error);
    this.busy.delete(worker);
    const position = this.idle.indexOf(worker);
    if (position >= 0) this.idle.splice(position, 1);
    if (!this.isClosed()) this.dispatch();
  }
}
