/** What was asked of the scheduler, and the image it was asked with (nova/objects/request_spec.py, image_meta.py). */
import { Flavor } from './flavor';
import { nullableInteger, nullableText, text } from './fields';
import { NovaObject } from './nova-object';

/** Properties of an image: 77 typed, optional fields in Zed, read by name where one is needed. */
export class ImageMetaProps extends NovaObject {
  static readonly className = 'ImageMetaProps';
}

/** An image as Nova's own objects describe it; properties are typed on the wire, hence a nested object. */
export class ImageMeta extends NovaObject {
  static readonly className = 'ImageMeta';

  /** Null for a server that boots from a volume. */
  get id(): string | null {
    return this.has('id') ? this.read('id', nullableText) : null;
  }
  get diskFormat(): string | null {
    return this.read('disk_format', nullableText);
  }
  get containerFormat(): string | null {
    return this.read('container_format', nullableText);
  }
  get checksum(): string | null {
    return this.read('checksum', nullableText);
  }
  get sizeBytes(): number | null {
    return this.read('size', nullableInteger);
  }
  get minDiskGb(): number {
    return this.read('min_disk', nullableInteger) ?? 0;
  }
  get minRamMb(): number {
    return this.read('min_ram', nullableInteger) ?? 0;
  }
  get properties(): ImageMetaProps {
    return this.readObject('properties', ImageMetaProps);
  }
}

export class RequestSpec extends NovaObject {
  static readonly className = 'RequestSpec';

  get instanceUuid(): string {
    return this.read('instance_uuid', text);
  }
  get flavor(): Flavor {
    return this.readObject('flavor', Flavor);
  }
  get image(): ImageMeta | null {
    return this.readOptionalObject('image', ImageMeta);
  }
  get availabilityZone(): string | null {
    return this.read('availability_zone', nullableText);
  }
}
