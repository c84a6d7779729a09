/** Where the configuration of a compute host is when nobody says so. */
import { access } from 'node:fs/promises';

/**
 * What nova-compute reads on Debian (oslo.config's search for `nova` and `nova-compute`), then what the package of this
 * service brings: later files win, so that /etc/prebake needs nothing but `[prebake]`.
 */
export const DEFAULT_CONFIG_PATHS: readonly string[] = [
  '/etc/nova/nova.conf',
  '/etc/nova/nova-compute.conf',
  '/etc/nova/nova.conf.d',
  '/etc/nova/nova-compute.conf.d',
  '/etc/prebake/prebake.conf',
  '/etc/prebake/prebake.conf.d',
];

/** Those of them that exist. */
export async function defaultConfigPaths(): Promise<readonly string[]> {
  const found = await Promise.all(
    DEFAULT_CONFIG_PATHS.map(async (path) => {
      const exists = await access(path).then(
        () => true,
        () => false,
      );
      return exists ? [path] : [];
    }),
  );
  return found.flat();
}
