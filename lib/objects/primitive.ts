/** From values to plain JSON: the outgoing half of the object format. The incoming half is in registry.ts. */

/** Something that knows its own wire form; NovaObject is the one that matters. */
interface HasPrimitive {
  toPrimitive(): unknown;
}

function hasPrimitive(value: object): value is HasPrimitive {
  return 'toPrimitive' in value && typeof value.toPrimitive === 'function';
}

/** A date as Nova writes it: UTC, whole seconds, `2026-11-22T12:55:56Z`. */
export function novaTime(date: Date): string {
  return date.toISOString().replace(/\.\d{3}Z$/, 'Z');
}

/** Plain JSON of any value: objects in wire form at any depth, dates as Nova writes them, undefined as null. */
export function serialise(value: unknown): unknown {
  if (value === undefined) return null;
  if (value === null || typeof value !== 'object') return value;
  if (value instanceof Date) return novaTime(value);
  if (Array.isArray(value)) return value.map((item: unknown) => serialise(item));
  if (hasPrimitive(value)) return value.toPrimitive();
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, serialise(item)]));
}
