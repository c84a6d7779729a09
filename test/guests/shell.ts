/** A user's shell in a guest: commands over ssh, on whatever host key it has. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const COMMAND_TIMEOUT_MS = 300_000;
const OPTIONS = {
  UserKnownHostsFile: '/dev/null',
  GlobalKnownHostsFile: '/dev/null',
  StrictHostKeyChecking: 'no',
  BatchMode: 'yes',
  ConnectTimeout: '30',
  ServerAliveInterval: '20',
  LogLevel: 'ERROR',
};

/** A key pair that is the user's. */
export class UserKey {
  private constructor(
    private readonly directory: string,
    /** As in authorized_keys. */
    readonly publicKey: string,
  ) {}

  static async make(): Promise<UserKey> {
    const directory = await mkdtemp(join(tmpdir(), 'prebake-keys-'));
    const path = join(directory, 'id');
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'user', '-f', path]);
    return new UserKey(directory, (await readFile(`${path}.pub`, 'utf8')).trim());
  }

  /** Runs a script in the guest as Debian's user, and returns what it says. */
  async run(address: string, script: string): Promise<string> {
    const args = Object.entries(OPTIONS).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
    const { stdout } = await run(
      'ssh',
      ['-F', 'none', '-i', join(this.directory, 'id'), ...args, `debian@${address}`, script],
      { timeout: COMMAND_TIMEOUT_MS },
    );
    return stdout.trim();
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}
