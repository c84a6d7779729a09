/** What Nova keeps with a shelved server (system_metadata; nova/compute/utils.py, remove_shelved_keys_from_system_metadata). */
import type { Instance } from '../objects';

const KEYS = { at: 'shelved_at', image: 'shelved_image_id', host: 'shelved_host' } as const;

/** Notes when the server was shelved, into which image, and where. */
export function noteShelving(instance: Instance, imageId: string, host: string): void {
  instance.set('system_metadata', {
    ...instance.systemMetadata,
    // Nova parses it as a Python datetime without a zone.
    [KEYS.at]: new Date().toISOString().replace('Z', ''),
    [KEYS.image]: imageId,
    [KEYS.host]: host,
  });
}

/** When the server was shelved; null for one that is not. */
export function shelvedAt(instance: Instance): Date | null {
  const text = instance.systemMetadata[KEYS.at] ?? null;
  return text === null ? null : new Date(`${text}Z`);
}

/** The image of a shelved server; null for one that has none. */
export function shelvedImage(instance: Instance): string | null {
  return instance.systemMetadata[KEYS.image] ?? null;
}

/** Forgets that the server was shelved. */
export function forgetShelving(instance: Instance): void {
  const names: readonly string[] = Object.values(KEYS);
  const kept = Object.entries(instance.systemMetadata).filter(([key]) => !names.includes(key));
  instance.set('system_metadata', Object.fromEntries(kept));
}
