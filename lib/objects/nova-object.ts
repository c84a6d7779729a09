/**
 * A Nova versioned object as it travels between services: named fields, which of them changed, and nothing lost that
 * this program does not know. What a field means is up to the typed subclasses next door.
 */
import { isDeepStrictEqual } from 'node:util';
import type { z } from 'zod';
import { ObjectFieldError } from './errors';
import { serialise } from './primitive';
import { OBJECT_VERSIONS } from './versions';

/** An object on the wire; `data` has plain JSON, nested objects in this same form. */
export interface ObjectPrimitive {
  'nova_object.name': string;
  'nova_object.namespace': string;
  'nova_object.version': string;
  'nova_object.data': Record<string, unknown>;
  'nova_object.changes'?: string[];
}

/** What an object is made of; nested objects in `fields` are NovaObjects already. */
export interface ObjectParts {
  readonly name: string;
  readonly namespace: string;
  readonly version: string;
  readonly fields: ReadonlyMap<string, unknown>;
  readonly changes: readonly string[];
}

/** A constructor of a typed object. */
export type ObjectClass<T extends NovaObject> = (new (parts: ObjectParts) => T) & {
  readonly className: string;
};

/** Which fields had changed at one instant, and how often; made by `snapshotChanges`. */
export type ChangeSnapshot = ReadonlyMap<string, number>;

/** Any Nova object. Fields go by Nova's names (`vm_state`); a field that was not loaded is absent, not null. */
export class NovaObject {
  /** The class in Nova's words (`Instance`); `name` and `version` are left to the fields of the typed classes. */
  readonly objectName: string;
  readonly objectNamespace: string;
  readonly objectVersion: string;
  private readonly fields: Map<string, unknown>;
  /** Changed field -> how many times it was set, so that a change made while a save is under way is not forgotten. */
  private readonly changed = new Map<string, number>();

  constructor(parts: ObjectParts) {
    this.objectName = parts.name;
    this.objectNamespace = parts.namespace;
    this.objectVersion = parts.version;
    this.fields = new Map(parts.fields);
    for (const field of parts.changes) this.changed.set(field, 1);
  }

  /** Whether the field was loaded or set. */
  has(field: string): boolean {
    return this.fields.has(field);
  }

  /** The field's value. @throws ObjectFieldError when it was not loaded */
  get(field: string): unknown {
    if (!this.fields.has(field)) throw new ObjectFieldError(this.objectName, field, 'is not loaded');
    return this.fields.get(field);
  }

  /** Names of all loaded fields. */
  get fieldNames(): readonly string[] {
    return [...this.fields.keys()];
  }

  /** Sets a field and, when the value is another one, marks it as changed. */
  set(field: string, value: unknown): void {
    if (this.fields.has(field) && isDeepStrictEqual(this.fields.get(field), value)) return;
    this.fields.set(field, value);
    this.changed.set(field, (this.changed.get(field) ?? 0) + 1);
  }

  /** Sets several fields. */
  update(values: Readonly<Record<string, unknown>>): void {
    for (const [field, value] of Object.entries(values)) this.set(field, value);
  }

  /** Fields that were set since the object was read or saved; a nested object's change counts as one of its holder. */
  get changes(): readonly string[] {
    const names = new Set(this.changed.keys());
    for (const [field, value] of this.fields) {
      if (value instanceof NovaObject && value.changes.length > 0) names.add(field);
    }
    return [...names].sort();
  }

  /** Takes over the fields that `other`, the same record read more fully, has and this object lacks. */
  completeFrom(other: NovaObject): void {
    for (const [field, value] of other.fields) {
      if (!this.fields.has(field)) this.fields.set(field, value);
    }
  }

  /** Takes over one field as it is stored. */
  load(field: string, value: unknown): void {
    this.fields.set(field, value);
  }

  /** Forgets all changes, those of nested objects too. */
  resetChanges(): void {
    this.changed.clear();
    for (const value of this.fields.values()) {
      if (value instanceof NovaObject) value.resetChanges();
    }
  }

  /** The changes that are about to be sent; to be given to `acknowledge` once they were stored. */
  snapshotChanges(): ChangeSnapshot {
    return new Map(this.changed);
  }

  /**
   * Takes over what the conductor answered to a save or create: `updates` are new values, `stillChanged` the fields it
   * calls changed nevertheless. A field that was set again while the answer was under way keeps its value and its mark.
   */
  acknowledge(
    sent: ChangeSnapshot,
    updates: ReadonlyMap<string, unknown>,
    stillChanged: readonly string[],
  ): void {
    const overtaken = new Set(
      [...this.changed].filter(([field, count]) => sent.get(field) !== count).map(([field]) => field),
    );
    for (const [field, value] of updates) {
      if (!overtaken.has(field)) this.fields.set(field, value);
    }
    for (const field of sent.keys()) {
      if (!overtaken.has(field)) this.changed.delete(field);
    }
    for (const value of this.fields.values()) {
      if (value instanceof NovaObject) value.resetChanges();
    }
    for (const field of stillChanged) this.changed.set(field, this.changed.get(field) ?? 1);
  }

  /** The object as it goes over the wire. */
  toPrimitive(): ObjectPrimitive {
    const data = Object.fromEntries([...this.fields].map(([field, value]) => [field, serialise(value)]));
    const primitive: ObjectPrimitive = {
      'nova_object.name': this.objectName,
      'nova_object.namespace': this.objectNamespace,
      'nova_object.version': this.objectVersion,
      'nova_object.data': data,
    };
    const changes = this.changes;
    if (changes.length > 0) primitive['nova_object.changes'] = [...changes];
    return primitive;
  }

  /** Lets JSON.stringify write the wire form. */
  toJSON(): ObjectPrimitive {
    return this.toPrimitive();
  }

  /** A field's value checked by `schema`. @throws ObjectFieldError naming the object, the field and what is wrong */
  protected read<T>(field: string, schema: z.ZodType<T>): T {
    const checked = schema.safeParse(this.get(field));
    if (!checked.success) {
      const why = checked.error.issues.map((issue) => issue.message).join(', ');
      throw new ObjectFieldError(this.objectName, field, `has an unexpected value: ${why}`, checked.error);
    }
    return checked.data;
  }

  /** A nested object. @throws ObjectFieldError when the field has something else */
  protected readObject<T extends NovaObject>(field: string, type: ObjectClass<T>): T {
    const value = this.get(field);
    if (value instanceof type) return value;
    throw new ObjectFieldError(this.objectName, field, `is not a ${type.className}`);
  }

  /** A nested object, or null when the field is null or was not loaded. */
  protected readOptionalObject<T extends NovaObject>(field: string, type: ObjectClass<T>): T | null {
    if (!this.has(field) || this.get(field) === null) return null;
    return this.readObject(field, type);
  }
}

/** A Nova list object (`InstanceList` ...): its members are in the field `objects`. */
export class NovaObjectList extends NovaObject {
  /** All members. @throws ObjectFieldError when one is not an object */
  get objects(): readonly NovaObject[] {
    return this.itemsOf(NovaObject);
  }

  /** All members as objects of `type`. @throws ObjectFieldError when one is of another class */
  itemsOf<T extends NovaObject>(type: new (parts: ObjectParts) => T): readonly T[] {
    const items = this.get('objects');
    if (!Array.isArray(items)) throw new ObjectFieldError(this.objectName, 'objects', 'is not a list');
    return items.map((item: unknown) => {
      if (item instanceof type) return item;
      throw new ObjectFieldError(this.objectName, 'objects', `has a member that is not a ${type.name}`);
    });
  }
}

/** A new object of a typed class with all given fields marked as changed, in the version this program speaks. */
export function createObject<T extends NovaObject>(
  type: ObjectClass<T>,
  fields: Readonly<Record<string, unknown>>,
): T {
  const version = OBJECT_VERSIONS[type.className];
  if (version === undefined) throw new ObjectFieldError(type.className, '*', 'has no known version');
  return new type({
    name: type.className,
    namespace: 'nova',
    version,
    fields: new Map(Object.entries(fields)),
    changes: Object.keys(fields),
  });
}
