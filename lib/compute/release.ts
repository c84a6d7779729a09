/**
 * Which number a compute service reports as its version, so that the rest of the cloud takes it for one of its own release.
 *
 * nova-api and nova-conductor refuse services older than the previous release and count on features of newer ones
 * (nova/objects/service.py, SERVICE_VERSION). The deployed release is told by the service records of nova-conductor, which
 * is upgraded before the computes.
 */
import type { Service } from '../objects';

/** Service version by release: the newest each release reports. */
const YOGA = 61;
/** Newest version whose compute RPC (6.5) is spoken here. */
const NEWEST_KNOWN = 73;
const ZED = 64;
/** From this version on a compute is also reached by a second topic, even while it stops (nova/compute/rpcapi.py, 6.5). */
export const ALTERNATE_TOPIC_SINCE = 71;

/**
 * @param conductors service records of nova-conductor, possibly of two releases during an upgrade
 * @param downAfterMs how much longer than all others a conductor is silent before it counts as gone
 * @returns the version to report: that of the oldest conductor at work, so that nobody expects more of this host than of its peers
 */
export function reportedServiceVersion(
  conductors: readonly Pick<Service, 'version' | 'lastSeenUp' | 'forcedDown'>[],
  downAfterMs: number,
): number {
  // Compared among themselves: this host's clock may be another one.
  const latest = Math.max(...conductors.map((conductor) => conductor.lastSeenUp?.getTime() ?? 0));
  const versions = conductors
    .filter(
      ({ forcedDown, lastSeenUp }) => !forcedDown && (lastSeenUp?.getTime() ?? 0) >= latest - downAfterMs,
    )
    .map(({ version }) => version)
    .filter((version) => version >= YOGA);
  return versions.length === 0 ? ZED : Math.min(...versions, NEWEST_KNOWN);
}
