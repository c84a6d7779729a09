/** Runs commands of the documentation as they are typed: by a shell in the repository, with `prebake` installed for a cloud. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { ROOT } from './documentation';
import { PREBAKE, run } from './servers';

const OPENRC = join(ROOT, 'devstack/openrc');
const TIMEOUT_MS = 900_000;

/** A shell that knows the commands; `remove` when done. */
export class TypedCommands {
  private constructor(private readonly directory: string) {}

  /** @param configFiles what `prebake` reads, in place of /etc/nova and /etc/prebake */
  static async prepare(configFiles: readonly string[]): Promise<TypedCommands> {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-docs-'));
    const shim = join(directory, 'prebake');
    const config = configFiles.map((file) => `--config-file '${file}'`).join(' ');
    await writeFile(shim, `#!/bin/sh\nexec '${process.execPath}' '${PREBAKE}' ${config} "$@"\n`);
    await chmod(shim, 0o755);
    return new TypedCommands(directory);
  }

  /**
   * @param values what stands for the words in capitals and in brackets
   * @returns standard output; rejects when the command fails, with what it said
   */
  async type(command: string, values: Readonly<Record<string, string>> = {}): Promise<string> {
    const text = Object.entries(values).reduce((line, [word, value]) => line.replace(word, value), command);
    const { stdout } = await run('bash', ['-euc', `. '${OPENRC}'\n${text}`], {
      cwd: ROOT,
      timeout: TIMEOUT_MS,
      maxBuffer: 1e8,
      env: { ...process.env, PATH: `${this.directory}${delimiter}${process.env.PATH ?? ''}` },
    });
    return stdout;
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true });
  }
}
