/** From plain JSON to objects: the incoming half of the object format, and which class stands for which name. */
import { z } from 'zod';
import { BlockDeviceMapping } from './block-device-mapping';
import { ComputeNode, HVSpec } from './compute-node';
import { UnexpectedObjectError } from './errors';
import { Flavor } from './flavor';
import { Instance, InstanceFault, InstanceInfoCache, KeyPair, VirtualInterface } from './instance';
import { Migration, MigrationContext } from './migration';
import { ConsoleAuthToken, InstanceExternalEvent, NetworkRequest } from './requests';
import { NovaObject, NovaObjectList, type ObjectParts } from './nova-object';
import { ImageMeta, ImageMetaProps, RequestSpec } from './request-spec';
import { Service } from './service';
import { OBJECT_VERSIONS } from './versions';

type AnyObjectClass = (new (parts: ObjectParts) => NovaObject) & { readonly className: string };

const TYPED: readonly AnyObjectClass[] = [
  BlockDeviceMapping,
  ComputeNode,
  ConsoleAuthToken,
  Flavor,
  HVSpec,
  ImageMeta,
  ImageMetaProps,
  Instance,
  InstanceExternalEvent,
  InstanceFault,
  InstanceInfoCache,
  KeyPair,
  Migration,
  MigrationContext,
  NetworkRequest,
  RequestSpec,
  Service,
  VirtualInterface,
];
const CLASSES = new Map(TYPED.map((type) => [type.className, type]));

const primitiveSchema = z.looseObject({
  'nova_object.name': z.string(),
  'nova_object.namespace': z.literal('nova'),
  'nova_object.version': z.string().regex(/^\d+\.\d+$/),
  'nova_object.data': z.custom<Record<string, unknown>>(isPlain),
  'nova_object.changes': z.array(z.string()).optional(),
});

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The value with every object of Nova's in it, at any depth, as a NovaObject; anything else stays as it is. A user's
 * metadata that merely has a key of that name is no object.
 *
 * @throws UnexpectedObjectError for an object whose major version is not the one this program reads
 */
export function deserialise(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => deserialise(item));
  if (!isPlain(value)) return value;
  if (Object.hasOwn(value, 'nova_object.name')) {
    const primitive = primitiveSchema.safeParse(value);
    if (primitive.success) return build(primitive.data);
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, deserialise(item)]));
}

function build(primitive: z.infer<typeof primitiveSchema>): NovaObject {
  const name = primitive['nova_object.name'];
  const version = primitive['nova_object.version'];
  const known = OBJECT_VERSIONS[name];
  if (known !== undefined && known.split('.')[0] !== version.split('.')[0]) {
    throw new UnexpectedObjectError(
      `${name} ${version} cannot be read: this service speaks ${name} ${known}`,
    );
  }
  const type = CLASSES.get(name) ?? (name.endsWith('List') ? NovaObjectList : NovaObject);
  return new type({
    name,
    namespace: primitive['nova_object.namespace'],
    version,
    fields: new Map(
      Object.entries(primitive['nova_object.data']).map(([field, value]) => [field, deserialise(value)]),
    ),
    changes: primitive['nova_object.changes'] ?? [],
  });
}

/** `value` as an object of `type`; plain JSON is deserialised first. @throws UnexpectedObjectError when it is not one */
export function expectObject<T extends NovaObject>(
  value: unknown,
  type: abstract new (parts: ObjectParts) => T,
): T {
  const object = value instanceof NovaObject ? value : deserialise(value);
  if (object instanceof type) return object;
  const found = object instanceof NovaObject ? object.objectName : object === null ? 'null' : typeof object;
  throw new UnexpectedObjectError(`expected a ${type.name}, got ${found}`);
}
