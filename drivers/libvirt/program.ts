/** Runs a program of the host: by argument list, with a deadline, in the C locale; its error output becomes the error. */
import { execFile } from 'node:child_process';
import { promisify, types } from 'node:util';
import { DiskSpaceExhausted } from '../../lib/exceptions';

const execute = promisify(execFile);
const MAX_OUTPUT_BYTES = 1024 * 1024;

export interface RunOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** A program failed, was killed at its deadline, or is not installed. */
export class ProgramError extends Error {
  constructor(program: string, reason: string, cause: unknown) {
    super(`${program} failed: ${reason}`, { cause });
    this.name = 'ProgramError';
  }
}

/** @returns standard output; @throws ProgramError, DiskSpaceExhausted */
export async function run(
  program: string,
  args: readonly string[],
  { timeoutMs, signal }: RunOptions,
): Promise<string> {
  try {
    const { stdout } = await execute(program, args, {
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      maxBuffer: MAX_OUTPUT_BYTES,
      env: { ...process.env, LC_ALL: 'C', PATH: `/usr/sbin:/usr/bin:/sbin:/bin:${process.env.PATH ?? ''}` },
      ...(signal && { signal }),
    });
    return stdout;
  } catch (error) {
    signal?.throwIfAborted();
    const reason = reasonOf(error, timeoutMs);
    if (reason.includes('No space left on device')) {
      throw new DiskSpaceExhausted(`${program} failed: ${reason}`, { cause: error });
    }
    throw new ProgramError(program, reason, error);
  }
}

function reasonOf(error: unknown, timeoutMs: number): string {
  if (!types.isNativeError(error)) return String(error);
  if ('code' in error && error.code === 'ENOENT') return 'it is not installed';
  if ('killed' in error && error.killed === true) return `not done after ${timeoutMs} ms`;
  const output = 'stderr' in error && typeof error.stderr === 'string' ? error.stderr.trim() : '';
  return output === '' ? error.message : output;
}
