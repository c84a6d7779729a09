/**
 * Who a server is, for its guest to read: the OpenStack part of Nova's config drive (nova/api/metadata/base.py), and the
 * same facts as values for a µVM's gate. Nothing is read or written here; the drive itself is the driver's business.
 */
import { randomBytes } from 'node:crypto';
import type { ConfigDriveFile, InstanceIdentity } from '../../../drivers/driver';
import type { Instance, KeyPair, NetworkInfo } from '../../objects';
import { blockDeviceMapping, diskPrefix, EC2_VERSIONS } from './block-devices';
import { deviceList } from './devices';
import { networkData } from './network-data';

/** What an identity is made from. */
export interface IdentityRequest {
  readonly instance: Instance;
  readonly networkInfo: NetworkInfo;
  /** Null when there shall be none. */
  readonly adminPassword: string | null;
  /** Files of the boot request; `path` is one in the guest. */
  readonly injectedFiles: readonly { readonly path: string; readonly content: Buffer }[];
  /** `force_config_drive` of nova.conf. */
  readonly forceConfigDrive: boolean;
  /** `[api] dhcp_domain`, appended to the hostname; Nova's default when not given, none when empty. */
  readonly dhcpDomain?: string;
  /** Content of `[api] vendordata_jsonfile_path`. */
  readonly vendorData?: Readonly<Record<string, unknown>>;
}

/** Versions of the metadata and what came with each; a guest takes the newest that it knows. */
const VERSIONS = [
  '2012-08-10',
  '2013-04-04',
  '2013-10-17',
  '2015-10-15',
  '2016-06-30',
  '2016-10-06',
  '2017-02-22',
  '2018-08-27',
  '2020-10-14',
  'latest',
] as const;
const SINCE = {
  randomSeed: '2013-04-04',
  vendorData: '2013-10-17',
  projectId: '2015-10-15',
  networkData: '2015-10-15',
  devices: '2016-06-30',
  vendorData2: '2016-10-06',
  dedicatedCpus: '2020-10-14',
} as const;
const DEFAULT_DHCP_DOMAIN = 'novalocal';
const RANDOM_SEED_BYTES = 512;

/** Makes a server's identity; every call draws a new random seed. */
export function buildIdentity(request: IdentityRequest): InstanceIdentity {
  const { instance, adminPassword } = request;
  const userData = instance.userData === null ? null : Buffer.from(instance.userData, 'base64');
  const key = keyOf(instance);
  const sshKey = key?.type === 'ssh' ? key.publicKey : key === null ? instance.keyData : null;
  return {
    uuid: instance.uuid,
    hostname: hostnameOf(instance),
    publicKeys: sshKey === null ? [] : [sshKey.trim()],
    adminPassword,
    userData,
    files: configDriveFiles(request, userData),
    injection: { files: request.injectedFiles, metadata: instance.metadata },
    configDrive: wantsConfigDrive(request),
  };
}

function configDriveFiles(request: IdentityRequest, userData: Buffer | null): readonly ConfigDriveFile[] {
  const { networkInfo, injectedFiles, vendorData = {} } = request;
  const seed = randomBytes(RANDOM_SEED_BYTES).toString('base64');
  const network = json(networkData(networkInfo));
  const files: ConfigDriveFile[] = [];
  for (const version of VERSIONS) {
    const add = (name: string, content: Buffer) =>
      files.push({ path: `openstack/${version}/${name}`, content });
    add('meta_data.json', json(metaData(request, version, seed)));
    if (userData !== null) add('user_data', userData);
    if (has(version, SINCE.vendorData)) add('vendor_data.json', json(vendorData));
    if (has(version, SINCE.networkData)) add('network_data.json', network);
    if (has(version, SINCE.vendorData2)) add('vendor_data2.json', json({ static: vendorData }));
  }
  const devices = json({
    'block-device-mapping': blockDeviceMapping(request.instance.flavor, diskPrefix(request.instance)),
  });
  for (const version of EC2_VERSIONS) files.push({ path: `ec2/${version}/meta-data.json`, content: devices });
  for (const [index, { content }] of injectedFiles.entries()) {
    files.push({ path: `openstack/${contentPath(index)}`, content });
  }
  return files;
}

function metaData(
  request: IdentityRequest,
  version: string,
  seed: string,
): Readonly<Record<string, unknown>> {
  const { instance, adminPassword, injectedFiles } = request;
  const domain = request.dhcpDomain ?? DEFAULT_DHCP_DOMAIN;
  const hostname = hostnameOf(instance);
  const key = keyOf(instance);
  return {
    uuid: instance.uuid,
    ...(Object.keys(instance.metadata).length === 0 ? {} : { meta: instance.metadata }),
    ...(injectedFiles.length === 0
      ? {}
      : {
          files: injectedFiles.map(({ path }, index) => ({ path, content_path: `/${contentPath(index)}` })),
        }),
    ...(adminPassword === null ? {} : { admin_pass: adminPassword }),
    ...(key === null
      ? {}
      : {
          public_keys: { [key.name]: key.publicKey },
          keys: [{ name: key.name, type: key.type, data: key.publicKey }],
        }),
    hostname: domain === '' ? hostname : `${hostname}.${domain}`,
    name: instance.displayName,
    launch_index: instance.launchIndex,
    availability_zone: instance.availabilityZone,
    ...(has(version, SINCE.randomSeed) ? { random_seed: seed } : {}),
    ...(has(version, SINCE.projectId) ? { project_id: instance.projectId } : {}),
    ...(has(version, SINCE.devices) ? { devices: deviceList(instance, version) } : {}),
    // No CPU is pinned on this host.
    ...(has(version, SINCE.dedicatedCpus) ? { dedicated_cpus: [] } : {}),
  };
}

/** Notes with a new server that it has a config drive, so that it keeps it (nova/virt/configdrive.py, update_instance). */
export function noteConfigDrive(instance: Instance, forceConfigDrive: boolean): void {
  if (!instance.configDrive && wantsConfigDrive({ instance, forceConfigDrive }))
    instance.set('config_drive', 'True');
}

/** The user asked for a drive, the operator wants one for every new server, or the image does (nova/virt/configdrive.py). */
function wantsConfigDrive({
  instance,
  forceConfigDrive,
}: Pick<IdentityRequest, 'instance' | 'forceConfigDrive'>): boolean {
  return (
    instance.configDrive ||
    (forceConfigDrive && instance.launchedAt === null) ||
    instance.systemMetadata['image_img_config_drive'] === 'mandatory'
  );
}

function keyOf(instance: Instance): KeyPair | null {
  return instance.keyName === null ? null : (instance.keypairs[0] ?? null);
}

function hostnameOf(instance: Instance): string {
  return instance.hostname ?? `server-${instance.uuid}`;
}

/** `latest` sorts after every date. */
function has(version: string, since: string): boolean {
  return version >= since;
}

function contentPath(index: number): string {
  return `content/${String(index).padStart(4, '0')}`;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
