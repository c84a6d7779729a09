/** The emulated TPM that a server's flavor or image asks for (nova/virt/hardware.py, get_vtpm_constraint). */
import type { FlavorSpec, ImageSpec } from '../drivers/driver';
import { FlavorImageConflict, Invalid } from './exceptions';

const VERSIONS = ['1.2', '2.0'] as const;
const MODELS = ['tpm-tis', 'tpm-crb'] as const;

/** Which TPM, by libvirt's names. */
export interface VtpmConfig {
  readonly version: (typeof VERSIONS)[number];
  readonly model: (typeof MODELS)[number];
}

/** What a server asks of its hardware. */
export interface Wishes {
  readonly flavor: FlavorSpec;
  readonly image: ImageSpec;
}

/** @returns null for a server without a TPM; @throws Invalid, FlavorImageConflict */
export function vtpmConfig(wishes: Wishes): VtpmConfig | null {
  const version = choice(wishes, 'tpm_version', 'TPM version', VERSIONS);
  if (version === null) return null;
  const model = choice(wishes, 'tpm_model', 'TPM model', MODELS) ?? 'tpm-tis';
  if (model === 'tpm-crb' && version !== '2.0') {
    throw new Invalid('TPM model CRB is only valid with TPM version 2.0.');
  }
  return { version, model };
}

function choice<T extends string>(
  { flavor, image }: Wishes,
  key: string,
  title: string,
  allowed: readonly T[],
): T | null {
  const ofFlavor = flavor.extraSpecs[`hw:${key}`];
  const ofImage = image.properties[`hw_${key}`];
  if (ofFlavor !== undefined && ofImage !== undefined && ofFlavor !== ofImage) {
    throw new FlavorImageConflict(
      `Flavor ${flavor.name} has hw:${key} extra spec explicitly set to ${ofFlavor}, conflicting with image ` +
        `${image.id} which has hw_${key} explicitly set to ${ofImage}.`,
    );
  }
  const wanted = ofFlavor ?? ofImage;
  if (wanted === undefined) return null;
  const chosen = allowed.find((value) => value === wanted);
  if (chosen !== undefined) return chosen;
  throw new Invalid(`Invalid ${title} '${wanted}'. Allowed values: ${allowed.join(', ')}.`);
}
