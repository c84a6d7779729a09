/**
 * Emulated TPMs. libvirt runs an `swtpm` beside QEMU for each, which keeps its state encrypted; libvirtd knows the
 * passphrase only while the guest is started (nova/virt/libvirt/driver.py: _check_vtpm_support, _add_vtpm_device,
 * _create_guest).
 */
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { Invalid, InvalidConfiguration } from '../../lib/exceptions';
import { vtpmConfig } from '../../lib/vtpm';
import type { InstanceSpec } from '../driver';
import type { LibvirtConnection } from './connection';
import { exists } from './instance-store';
import { ErrorCode, isLibvirtError } from './libvirt-error';
import { run } from './program';
import type { DriverSettings } from './settings';
import { toXml, type XmlNode } from './xml';
import { readXml } from './xml-reader';

/** Where libvirt has the state of each TPM, in a directory named after its server; removed with the definition. */
const STATE_DIRECTORY = '/var/lib/libvirt/swtpm';
/** VIR_SECRET_USAGE_TYPE_VTPM */
const USAGE_TYPE = 5;
const TOOL_TIMEOUT_MS = 30_000;

/** @throws InvalidConfiguration when servers are to have TPMs that this host cannot emulate */
export async function checkVtpmSupport({ libvirt }: DriverSettings): Promise<void> {
  if (!libvirt.swtpmEnabled) return;
  const succeeds = async (program: string, ...args: string[]): Promise<boolean> =>
    run(program, args, { timeoutMs: TOOL_TIMEOUT_MS }).then(
      () => true,
      () => false,
    );
  if (!(await succeeds('swtpm', '--help')) || !(await succeeds('swtpm_setup', '--help'))) {
    throw new InvalidConfiguration(
      "vTPM support is configured but the 'swtpm' and 'swtpm_setup' binaries could not be found on PATH.",
    );
  }
  for (const [what, database, name] of [
    ['user', 'passwd', libvirt.swtpmUser],
    ['group', 'group', libvirt.swtpmGroup],
  ] as const) {
    if (await succeeds('getent', database, name)) continue;
    throw new InvalidConfiguration(
      `The ${what} configured in '[libvirt] swtpm_${what}' does not exist on this host; expected '${name}'.`,
    );
  }
}

/** `<tpm>`, for a server that asks for one. @throws Invalid without its secret */
export function tpm(instance: InstanceSpec): XmlNode | undefined {
  const config = vtpmConfig(instance);
  if (config === null) return undefined;
  const { vtpmSecret } = instance;
  if (vtpmSecret === undefined) throw new Invalid('Refusing to create an emulated TPM with no secret!');
  return {
    '@model': config.model,
    backend: {
      '@type': 'emulator',
      '@version': config.version,
      encryption: { '@secret': vtpmSecret.uuid },
    },
  };
}

/** Starts a guest by `start`, while libvirtd knows the passphrase of its TPM, if it has one. */
export async function withVtpmSecret<T>(
  connection: LibvirtConnection,
  { uuid, vtpmSecret }: Pick<InstanceSpec, 'uuid' | 'vtpmSecret'>,
  start: () => Promise<T>,
): Promise<T> {
  if (vtpmSecret === undefined) return await start();
  const passphrase = Buffer.from(await vtpmSecret.passphrase());
  try {
    await connection.defineSecret(secretXml(uuid, vtpmSecret.uuid), passphrase);
    return await start();
  } finally {
    await forgetVtpmSecret(connection, uuid);
  }
}

/** Has libvirtd forget the passphrase of a server's TPM. Idempotent. */
export async function forgetVtpmSecret(connection: LibvirtConnection, uuid: string): Promise<void> {
  try {
    await connection.undefineSecret(USAGE_TYPE, uuid);
  } catch (error) {
    if (!isLibvirtError(error, ErrorCode.NO_SECRET)) throw error;
  }
}

/** In the daemon's memory alone, and not to be read by its clients. */
function secretXml(instanceUuid: string, secretUuid: string): string {
  return toXml('secret', {
    '@ephemeral': 'yes',
    '@private': 'yes',
    uuid: secretUuid,
    usage: { '@type': 'vtpm', name: instanceUuid },
  });
}

/** Copies the state of a stopped server's TPM, if it has one, to where a resize keeps what the server was. */
export async function saveVtpmState(uuid: string, directory: string): Promise<void> {
  const state = join(STATE_DIRECTORY, uuid);
  if (await exists(state)) await copyTree(state, savedState(uuid, directory));
}

/**
 * Before a server is defined by another flavor: a TPM that stays what it is keeps its state, any other begins anew.
 * @param definition the XML that the server has until then
 */
export async function keepSameVtpm(instance: InstanceSpec, definition: string): Promise<void> {
  const before = readXml(definition, definitionSchema).domain.devices.tpm;
  const config = vtpmConfig(instance);
  const same = config?.version === before?.backend['@version'] && config?.model === before?.['@model'];
  if (!same) await forgetVtpmState(instance.uuid);
}

/** Puts the state of a stopped server's TPM in its place that was saved in `directory`, if one was. Idempotent. */
export async function restoreVtpmState(
  { uuid, ...wishes }: InstanceSpec,
  directory: string,
  { swtpmUser, swtpmGroup }: DriverSettings['libvirt'],
): Promise<void> {
  const saved = savedState(uuid, directory);
  const isSaved = await exists(saved);
  if (isSaved || vtpmConfig(wishes) === null) await forgetVtpmState(uuid);
  if (!isSaved) return;
  await run('chown', ['--recursive', `${swtpmUser}:${swtpmGroup}`, saved], { timeoutMs: TOOL_TIMEOUT_MS });
  await copyTree(saved, join(STATE_DIRECTORY, uuid));
  await rm(saved, { recursive: true });
}

/** Removes the state of the TPM of a server that does not run. Idempotent. */
export async function forgetVtpmState(uuid: string): Promise<void> {
  await rm(join(STATE_DIRECTORY, uuid), { recursive: true, force: true });
}

/** As Nova lays it out. */
function savedState(uuid: string, directory: string): string {
  return join(directory, 'swtpm', uuid);
}

async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true, mode: 0o711 });
  await run('cp', ['--archive', '--no-target-directory', from, to], { timeoutMs: TOOL_TIMEOUT_MS });
}

const definitionSchema = z.object({
  domain: z.object({
    devices: z.object({
      tpm: z.object({ '@model': z.string(), backend: z.object({ '@version': z.string() }) }).optional(),
    }),
  }),
});
