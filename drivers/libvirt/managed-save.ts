/**
 * Suspending a guest to disk and resuming it, by libvirt's managed save. A clone of a µVM becomes independent of the µVM
 * here: all its memory is in the file.
 */
import { describeError } from '../../lib/exceptions';
import type { Domain } from './domain';
import { isOff } from './power';

/** The element by which libvirt's hook maps a µVM's RAM into a clone. */
const UVM_METADATA = /\s*<prebake:uvm\b[^>]*\/>/;

/** Saves a guest and ends it. Idempotent. */
export async function saveGuest(domain: Domain): Promise<void> {
  if (!((await isOff(domain)) && (await domain.hasManagedSave()))) await domain.managedSave();
  await forgetUvm(domain);
}

/**
 * Starts a saved guest where it was; nothing for one that runs.
 * @throws Error when nothing was saved: the guest would boot, and its user would not know
 */
export async function restoreGuest(domain: Domain): Promise<void> {
  if (!(await isOff(domain))) return;
  if (!(await domain.hasManagedSave())) {
    throw new Error(`nothing is saved of instance ${domain.uuid}: it would boot instead of going on`);
  }
  await domain.restore();
}

/** Without this a resume would need the µVM's RAM file, which may be gone by then, only to overwrite all of it. */
async function forgetUvm(domain: Domain): Promise<void> {
  const xml = await domain.managedSaveXml();
  const independent = xml.replace(UVM_METADATA, '');
  if (independent === xml) return;
  try {
    await domain.defineManagedSaveXml(independent);
  } catch (error) {
    throw new Error(`the saved guest still depends on its µVM: ${describeError(error)}`, { cause: error });
  }
}
