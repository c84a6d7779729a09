/**
 * Passphrases of emulated TPMs: made in the key manager in the name of the server's user, found again by the server's
 * `vtpm_secret_uuid`, and deleted with the server (nova/crypto.py: ensure_vtpm_secret, delete_vtpm_secret).
 */
import { randomBytes } from 'node:crypto';
import type { InstanceSpec } from '../../drivers/driver';
import { InvalidConfiguration, describeError } from '../exceptions';
import type { Logger } from '../log';
import type { RequestContext } from '../messaging';
import type { Instance } from '../objects';
import { type Barbican, isHttpError } from '../openstack';
import { vtpmConfig } from '../vtpm';
import type { InstanceRecords } from './instance-records';
import { flavorSpec, imageSpecFromInstance } from './instance-spec';

/** Where Nova keeps the ID of the secret. */
const SECRET = 'vtpm_secret_uuid';
/** As many as Nova takes. */
const PASSPHRASE_BYTES = 384;

/** What passphrases are kept with. */
export interface VtpmParts {
  readonly keyManager: () => Pick<Barbican, 'asUser'>;
  readonly records: Pick<InstanceRecords, 'save'>;
  readonly logger: Logger;
  /** `[libvirt] swtpm_enabled` */
  readonly enabled: boolean;
}

/** Keeps the passphrases of the TPMs of this host's servers. */
export class Vtpm {
  constructor(private readonly parts: VtpmParts) {}

  /**
   * The server with the secret of its TPM, which is made if it has none yet. The same for one without a TPM, and on hosts
   * that emulate none, whose driver then refuses it. Whoever changes the server's record has to wait for it.
   */
  async withSecret(context: RequestContext, instance: Instance, spec: InstanceSpec): Promise<InstanceSpec> {
    if (!this.parts.enabled || vtpmConfig(spec) === null) return spec;
    const secretUuid = secretOf(instance) ?? (await this.make(context, instance));
    const keyManager = this.parts.keyManager().asUser(context.authToken);
    const passphrase = async (): Promise<string> => (await keyManager.get(secretUuid)).payload;
    return { ...spec, vtpmSecret: { uuid: secretUuid, passphrase } };
  }

  /** Deletes the passphrase of a server that has one. Idempotent. */
  async deleteSecret(context: RequestContext, instance: Instance): Promise<void> {
    const secretUuid = secretOf(instance);
    if (secretUuid === null) return;
    await this.remove(context, secretUuid);
    const kept = Object.entries(instance.systemMetadata).filter(([key]) => key !== SECRET);
    instance.set('system_metadata', Object.fromEntries(kept));
    await this.parts.records.save(context, instance);
  }

  /** Deletes the passphrase of a server whose flavor, now that it has changed, asks for no TPM. */
  async deleteUnused(context: RequestContext, instance: Instance): Promise<void> {
    if (!asksForVtpm(instance)) await this.deleteSecret(context, instance);
  }

  /**
   * Nova starts no service whose servers have TPMs that it may not emulate.
   * @throws InvalidConfiguration
   */
  validate(instances: readonly Instance[]): void {
    if (this.parts.enabled || !instances.some(asksForVtpm)) return;
    throw new InvalidConfiguration(
      'This host has instances with the vTPM feature enabled, but the host is not correctly configured; enable vTPM ' +
        'support ([libvirt] swtpm_enabled).',
    );
  }

  private async make(context: RequestContext, instance: Instance): Promise<string> {
    const { keyManager, records, logger } = this.parts;
    const secretUuid = await keyManager()
      .asUser(context.authToken)
      .store({
        name: `vTPM secret for instance ${instance.uuid}`,
        type: 'passphrase',
        payload: randomBytes(PASSPHRASE_BYTES).toString('base64'),
      });
    try {
      instance.set('system_metadata', { ...instance.systemMetadata, [SECRET]: secretUuid });
      await records.save(context, instance);
    } catch (error) {
      // Nobody would find it again.
      await this.remove(context, secretUuid).catch((leftOver: unknown) =>
        logger.warn({ instance_uuid: instance.uuid }, `secret ${secretUuid}: ${describeError(leftOver)}`),
      );
      throw error;
    }
    return secretUuid;
  }

  private async remove(context: RequestContext, secretUuid: string): Promise<void> {
    try {
      await this.parts.keyManager().asUser(context.authToken).delete(secretUuid);
    } catch (error) {
      if (!isHttpError(error, 404)) throw error;
    }
  }
}

function secretOf(instance: Instance): string | null {
  return instance.systemMetadata[SECRET] ?? null;
}

function asksForVtpm(instance: Instance): boolean {
  const wishes = { flavor: flavorSpec(instance.flavor), image: imageSpecFromInstance(instance) };
  return vtpmConfig(wishes) !== null;
}
