/**
 * Which number a compute service reports as its version, so that the rest of the cloud takes it for one of its own release.
 *
 * nova-api and nova-conductor refuse services older than the previous release and count on features of newer ones
 * (nova/objects/service.py, SERVICE_VERSION). The deployed release is told by the service records of nova-conductor.
 */

/** Service version by release: the newest each release reports. */
const YOGA = 61;
/** Newest version whose compute RPC (6.5) is spoken here. */
const NEWEST_KNOWN = 73;
const ZED = 64;

/**
 * @param conductorVersions versions found in the records of nova-conductor, possibly of two releases during an upgrade
 * @returns the version to report: the oldest conductor's, so that nobody expects more of this host than of its peers
 */
export function reportedServiceVersion(conductorVersions: readonly number[]): number {
  const known = conductorVersions.filter((version) => version >= YOGA);
  if (known.length === 0) return ZED;
  return Math.min(Math.min(...known), NEWEST_KNOWN);
}
