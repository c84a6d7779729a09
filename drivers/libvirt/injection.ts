/**
 * Files, keys and passwords written onto a server's disk before it first boots, for guests that ask neither a config drive
 * nor a metadata service (nova/virt/disk/api.py, inject_data). The file system is mounted by libguestfs, in a guest of its
 * own: nothing that a user made is read by this host's kernel.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, posix } from 'node:path';
import type { Logger } from 'pino';
import { describeError } from '../../lib/exceptions';
import type { InstanceIdentity } from '../driver';
import { run } from './program';
import type { DriverSettings } from './settings';

/** libguestfs makes its own guest before it starts it for the first time. */
const TIMEOUT_MS = 5 * 60_000;
/** `[libvirt] inject_partition` */
const NOTHING = -2;
const BY_INSPECTION = -1;
const WHOLE_DISK = 0;

interface InjectionParts {
  readonly settings: DriverSettings;
  readonly logger: Logger;
}

/**
 * Writes what the server's user and the operator want to be on the qcow2 at `disk`: nothing for a server with a config
 * drive. Only files have to be there: without them, what fails is logged.
 * @throws ProgramError when libguestfs is not installed, finds no file system or cannot write to it
 */
export async function inject(
  { settings, logger }: InjectionParts,
  disk: string,
  identity: InstanceIdentity,
  signal: AbortSignal,
): Promise<void> {
  const { virtType, injectPartition } = settings.libvirt;
  if (injectPartition === NOTHING || identity.configDrive) return;
  const directory = await mkdtemp(join(tmpdir(), 'prebake-inject-'));
  try {
    const commands = await commandsFor(directory, identity, settings, signal);
    if (commands.length === 0) return;
    const script = join(directory, 'script');
    await writeFile(script, [...commands, ''].join('\n'), { mode: 0o600 });
    const emulated = virtType === 'qemu' ? ['LIBGUESTFS_BACKEND_SETTINGS=force_tcg'] : [];
    const program = ['LIBGUESTFS_BACKEND=direct', ...emulated, 'guestfish', '--format=qcow2', '--add', disk];
    const args = [...program, ...mounting(injectPartition), '--file', script];
    await run('env', args, { timeoutMs: TIMEOUT_MS, signal });
  } catch (error) {
    signal.throwIfAborted();
    if ((identity.injection?.files.length ?? 0) > 0) throw error;
    logger.warn({ instance_uuid: identity.uuid }, `not injected: ${describeError(error)}`);
  } finally {
    await rm(directory, { recursive: true });
  }
}

function mounting(partition: number): string[] {
  if (partition === BY_INSPECTION) return ['--inspector'];
  return ['--mount', partition === WHOLE_DISK ? '/dev/sda' : `/dev/sda${partition}`];
}

/** Of guestfish; one that may fail begins with `-`. Contents are put into files of `directory`. */
async function commandsFor(
  directory: string,
  { publicKeys, adminPassword, injection }: InstanceIdentity,
  { libvirt }: DriverSettings,
  signal: AbortSignal,
): Promise<string[]> {
  const { files = [], metadata = {} } = injection ?? {};
  const commands: string[] = [];
  let count = 0;
  const local = async (content: string | Buffer): Promise<string> => {
    const path = join(directory, String(count++));
    await writeFile(path, content, { mode: 0o600 });
    return path;
  };
  const [key] = publicKeys;
  if (libvirt.injectKey && key !== undefined) {
    const text = `\n# The following ssh key was injected by Nova\n${key}\n`;
    commands.push(
      '-mkdir-p /root/.ssh',
      '-chown 0 0 /root/.ssh',
      '-chmod 0700 /root/.ssh',
      `-write-append /root/.ssh/authorized_keys ${quoted(text)}`,
      '-chmod 0600 /root/.ssh/authorized_keys',
    );
  }
  if (Object.keys(metadata).length > 0) {
    commands.push(`-upload ${quoted(await local(JSON.stringify(metadata)))} /meta.js`);
  }
  if (libvirt.injectPassword && adminPassword !== null) {
    const options = { timeoutMs: TIMEOUT_MS, signal };
    const hash = await run('openssl', ['passwd', '-6', '-in', await local(adminPassword)], options);
    commands.push(
      '-aug-init / 0',
      `-aug-set /files/etc/shadow/root/password ${quoted(hash.trim())}`,
      '-aug-save',
    );
  }
  for (const { path, content } of files) {
    const target = posix.join('/', path);
    const parent = dirname(target);
    commands.push(
      `mkdir-p ${quoted(dirname(parent))}`,
      // One that is there stays as it is.
      ...(parent === '/' ? [] : [`-mkdir-mode ${quoted(parent)} 0744`]),
      `upload ${quoted(await local(content))} ${quoted(target)}`,
    );
  }
  return commands;
}

/** As guestfish reads it. */
function quoted(text: string): string {
  const hex = (character: string): string => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  return `"${text.replace(/[\p{Cc}"\\]/gu, hex)}"`;
}
