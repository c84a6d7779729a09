/** One disk of a server: where it comes from and where it is (nova/objects/block_device.py). */
import { flag, nullableInteger, nullableText } from './fields';
import { NovaObject } from './nova-object';

export class BlockDeviceMapping extends NovaObject {
  static readonly className = 'BlockDeviceMapping';

  /** image, volume, snapshot or blank. */
  get sourceType(): string | null {
    return this.read('source_type', nullableText);
  }
  /** local or volume. */
  get destinationType(): string | null {
    return this.read('destination_type', nullableText);
  }
  /** 0 is the root disk; negative or null is never booted from. */
  get bootIndex(): number | null {
    return this.read('boot_index', nullableInteger);
  }
  get deviceName(): string | null {
    return this.read('device_name', nullableText);
  }
  /** What its user calls it. */
  get tag(): string | null {
    return this.has('tag') ? this.read('tag', nullableText) : null;
  }
  get imageId(): string | null {
    return this.read('image_id', nullableText);
  }
  get volumeId(): string | null {
    return this.read('volume_id', nullableText);
  }
  /** swap for a swap disk, a file system or null. */
  get guestFormat(): string | null {
    return this.read('guest_format', nullableText);
  }
  get volumeSizeGb(): number | null {
    return this.read('volume_size', nullableInteger);
  }
  get deleteOnTermination(): boolean {
    return this.read('delete_on_termination', flag);
  }
}
