/** Runs one invocation of `prebake` and turns whatever happens into a message and an exit code. */
import { CommanderError } from 'commander';
import { describeError } from '../exceptions';
import { redact } from '../log';
import { CommandError, EXIT, type ExitCode, printable } from './output';
import { type ProgramParts, buildProgram } from './program';

/** @param args without the program's own name */
export async function run(args: readonly string[], parts: ProgramParts): Promise<ExitCode> {
  try {
    await buildProgram(parts).parseAsync(args, { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    // commander has printed its complaint, help or version itself.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const told = error instanceof CommandError && error.exitCode === EXIT.interrupted;
    if (parts.signal.aborted && !told) {
      parts.output.note('prebake: interrupted, nothing is left behind');
      return EXIT.interrupted;
    }
    const message = error instanceof CommandError ? error.message : printable(describeError(error));
    parts.output.note(`prebake: ${redact(message)}`);
    return error instanceof CommandError ? error.exitCode : EXIT.failed;
  }
}
