/** A server and the records that hang on it (nova/objects/instance.py and its neighbours). */
import { Flavor } from './flavor';
import {
  flag,
  integer,
  nullableDate,
  nullableInteger,
  nullableStringMap,
  nullableText,
  stringMap,
  text,
  textList,
  uuid,
} from './fields';
import { parseNetworkInfo, serialiseNetworkInfo, type NetworkInfo } from './network-model';
import { NovaObject, NovaObjectList } from './nova-object';

/** What a server's network looks like, as last seen by its host (nova/objects/instance_info_cache.py). */
export class InstanceInfoCache extends NovaObject {
  static readonly className = 'InstanceInfoCache';

  get instanceUuid(): string {
    return this.read('instance_uuid', uuid);
  }
  /** Empty when nothing was cached yet. */
  get networkInfo(): NetworkInfo {
    const json = this.read('network_info', nullableText);
    return json === null ? [] : parseNetworkInfo(json);
  }
  set networkInfo(info: NetworkInfo) {
    this.set('network_info', serialiseNetworkInfo(info));
  }
}

/** A public key of a server's owner (nova/objects/keypair.py). */
export class KeyPair extends NovaObject {
  static readonly className = 'KeyPair';

  get name(): string {
    return this.read('name', text);
  }
  /** ssh or x509. */
  get type(): string {
    return this.read('type', text);
  }
  get publicKey(): string | null {
    return this.read('public_key', nullableText);
  }
}

/** Why a server is in ERROR, for its user to read (nova/objects/instance_fault.py). */
export class InstanceFault extends NovaObject {
  static readonly className = 'InstanceFault';
}

/** A server's NIC as Nova's database has it (nova/objects/virtual_interface.py). */
export class VirtualInterface extends NovaObject {
  static readonly className = 'VirtualInterface';

  get uuid(): string {
    return this.read('uuid', uuid);
  }
  get address(): string | null {
    return this.read('address', nullableText);
  }
  /** What its user calls it. */
  get tag(): string | null {
    return this.has('tag') ? this.read('tag', nullableText) : null;
  }
}

export class Instance extends NovaObject {
  static readonly className = 'Instance';

  get id(): number {
    return this.read('id', integer);
  }
  get uuid(): string {
    return this.read('uuid', uuid);
  }
  /** The hypervisor's name for the server, from `instance_name_template`: a printf of the id, or of fields by name. */
  nameFrom(template: string): string {
    return template.replace(
      /%(?:\((\w+)\)s|(0?)(\d*)([dx])|(%))/g,
      (_match, field?: string, zero?: string, width?: string, base?: string, percent?: string) => {
        if (percent !== undefined) return '%';
        if (field !== undefined) return String(this.get(field));
        const digits = this.id.toString(base === 'x' ? 16 : 10);
        return digits.padStart(Number(width), zero === '0' ? '0' : ' ');
      },
    );
  }
  get host(): string | null {
    return this.read('host', nullableText);
  }
  get node(): string | null {
    return this.read('node', nullableText);
  }
  get vmState(): string | null {
    return this.read('vm_state', nullableText);
  }
  get taskState(): string | null {
    return this.read('task_state', nullableText);
  }
  /** A number of `PowerState`. */
  get powerState(): number | null {
    return this.read('power_state', nullableInteger);
  }
  get userId(): string {
    return this.read('user_id', text);
  }
  get projectId(): string {
    return this.read('project_id', text);
  }
  /** Empty for a server that boots from a volume. */
  get imageRef(): string {
    return this.read('image_ref', nullableText) ?? '';
  }
  get flavor(): Flavor {
    return this.readObject('flavor', Flavor);
  }
  /** The flavor it had before a resize that is under way or not confirmed yet. */
  get oldFlavor(): Flavor | null {
    return this.readOptionalObject('old_flavor', Flavor);
  }
  /** The flavor that such a resize gives it. */
  get newFlavor(): Flavor | null {
    return this.readOptionalObject('new_flavor', Flavor);
  }
  get memoryMb(): number {
    return this.read('memory_mb', integer);
  }
  get vcpus(): number {
    return this.read('vcpus', integer);
  }
  get rootGb(): number {
    return this.read('root_gb', integer);
  }
  get ephemeralGb(): number {
    return this.read('ephemeral_gb', integer);
  }
  get hostname(): string | null {
    return this.read('hostname', nullableText);
  }
  get displayName(): string | null {
    return this.read('display_name', nullableText);
  }
  /** Base64 as the user sent it. */
  get userData(): string | null {
    return this.read('user_data', nullableText);
  }
  get keyName(): string | null {
    return this.read('key_name', nullableText);
  }
  get keyData(): string | null {
    return this.read('key_data', nullableText);
  }
  /** Whether the user asked for a config drive (Nova keeps text: empty means no). */
  get configDrive(): boolean {
    const value = (this.read('config_drive', nullableText) ?? '').toLowerCase();
    return !['', '0', 'false', 'f', 'no', 'n', 'off'].includes(value);
  }
  get metadata(): Readonly<Record<string, string>> {
    return this.read('metadata', stringMap);
  }
  get systemMetadata(): Readonly<Record<string, string | null>> {
    return this.read('system_metadata', nullableStringMap);
  }
  /** Certificates that the signature of its image has to go back to, by their IDs; undefined when not loaded. */
  get trustedCertificateIds(): readonly string[] | undefined {
    if (!this.has('trusted_certs')) return undefined;
    const certificates = this.get('trusted_certs');
    return certificates instanceof NovaObject ? textList.parse(certificates.get('ids')) : [];
  }
  /** Empty when not loaded. */
  get keypairs(): readonly KeyPair[] {
    const list = this.has('keypairs') ? this.get('keypairs') : null;
    return list instanceof NovaObjectList ? list.itemsOf(KeyPair) : [];
  }
  get infoCache(): InstanceInfoCache | null {
    return this.readOptionalObject('info_cache', InstanceInfoCache);
  }
  /** The cached network; empty without a cache. */
  get networkInfo(): NetworkInfo {
    return this.infoCache?.networkInfo ?? [];
  }
  get availabilityZone(): string | null {
    return this.read('availability_zone', nullableText);
  }
  /** Number of the server among those made by one request. */
  get launchIndex(): number {
    return this.read('launch_index', nullableInteger) ?? 0;
  }
  get reservationId(): string | null {
    return this.read('reservation_id', nullableText);
  }
  get rootDeviceName(): string | null {
    return this.read('root_device_name', nullableText);
  }
  get locked(): boolean {
    return this.read('locked', flag);
  }
  get deleted(): boolean {
    return this.read('deleted', flag);
  }
  /** Of a server that can still be restored: when its user deleted it. */
  get deletedAt(): Date | null {
    return this.read('deleted_at', nullableDate);
  }
  get createdAt(): Date | null {
    return this.read('created_at', nullableDate);
  }
  get updatedAt(): Date | null {
    return this.read('updated_at', nullableDate);
  }
  get launchedAt(): Date | null {
    return this.read('launched_at', nullableDate);
  }
}
