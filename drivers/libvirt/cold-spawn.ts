/** Boots a new server from its image, as stock Nova does: base file, overlay, config drive, domain, network, go. */
import type { InstanceIdentity, SpawnOutcome, SpawnRequest } from '../driver';
import { createExtraDisks, createOverlay, rootSizeBytes } from './local-disks';
import { ensureBridges } from './bridge';
import { writeConfigDrive } from './config-drive';
import { listDevices } from './guest-devices';
import { inject } from './injection';
import type { InstancePaths } from './instance-store';
import { allOrFirstFailure } from '../../lib/all-or-first-failure';
import type { DriverParts } from './uvm-engine';
import { withVtpmSecret } from './vtpm';

/**
 * Leaves a defined and running domain. On failure the caller removes domain and files.
 * @param why what kept it from a µVM, for the outcome
 */
export async function spawnCold(
  request: SpawnRequest,
  parts: DriverParts,
  paths: InstancePaths,
  why: string,
): Promise<SpawnOutcome> {
  const { instance, timeline, signal } = request;
  const { flavor, image } = instance;

  const disks = timeline.phase('disks', async () => {
    const base = await timeline.phase('image', () => parts.images.ensure(image, signal));
    await createOverlay(paths.disk, base, rootSizeBytes(flavor, image, base), signal);
    await createExtraDisks(paths, flavor, signal);
  });
  const network = timeline.phase('network', async () => {
    const info = await request.network;
    await ensureBridges(info);
    return info;
  });
  const writeDrive = (made: Promise<InstanceIdentity>): Promise<void> =>
    timeline.phase('config_drive', async () => {
      const identity = await made;
      if (identity.configDrive) await writeConfigDrive(paths.configDrive, identity.files, signal);
    });
  const configDrive = writeDrive(request.identity);
  const injected = timeline.phase('inject', async () => {
    await disks;
    await inject(parts, paths.disk, await request.identity, signal);
  });
  const [info] = await allOrFirstFailure([network, disks, configDrive, injected]);

  signal.throwIfAborted();
  const domain = await timeline.phase('define', async () =>
    parts.connection.defineXml(await parts.coldXml(instance, info)),
  );
  const { identityWith } = request;
  // Its devices have their places once libvirt knows it.
  if (identityWith !== undefined) await writeDrive(listDevices(domain).then(identityWith));
  signal.throwIfAborted();
  await timeline.phase('start', () =>
    withVtpmSecret(parts.connection, instance, () => domain.start({ paused: true })),
  );
  await timeline.phase('vifs', () => request.vifsPlugged(info));
  signal.throwIfAborted();
  await timeline.phase('resume', () => domain.resume());
  timeline.mark('running');
  return { how: 'cold', why };
}
