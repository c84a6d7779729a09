/** What an image says about its own µVM in its Glance properties, read once into types. */
import { z } from 'zod';
import type { ImageSpec } from '../../drivers/driver';

/** An image's wishes; what it does not say is null and left to the host. */
export interface ImagePolicy {
  /**
   * `prebake`: `never` is for images that shall always boot cold, `always` for those that shall have a µVM where not every
   * image gets one.
   */
  readonly bake: 'auto' | 'always' | 'never';
  /** `prebake_min_memory_mb`: memory the first boot needs, in MiB; flavors with less boot cold. */
  readonly minMemoryMb: number | null;
  /** `prebake_bake_timeout_s`: seconds that a bake of it may take, instead of `[prebake] bake_timeout_s`. */
  readonly bakeTimeoutS: number | null;
}

const whole = (min: number, max: number) =>
  z
    .string()
    .regex(/^[0-9]{1,9}$/)
    .transform(Number)
    .refine((value) => value >= min && value <= max);

/** Properties by name, each with what it may be, in words for whoever set it wrongly. */
const PROPERTIES = {
  prebake: { schema: z.enum(['auto', 'always', 'never']), expected: 'auto, always or never' },
  prebake_min_memory_mb: { schema: whole(1, 4_194_304), expected: 'a number of MiB' },
  prebake_bake_timeout_s: { schema: whole(1, 86_400), expected: 'seconds, 86400 at most' },
} as const;

/**
 * Reads the properties of an image.
 * @returns `problem` names the first property that is not what it may be; it counts as not set
 */
export function imagePolicy(image: Pick<ImageSpec, 'properties'>): ImagePolicy & {
  readonly problem: string | null;
} {
  const problems: string[] = [];
  const read = <T>(name: keyof typeof PROPERTIES, schema: z.ZodType<T>): T | null => {
    const value = image.properties[name];
    if (value === undefined) return null;
    const checked = schema.safeParse(value);
    if (checked.success) return checked.data;
    problems.push(`the image says ${name}=${value}, which is not ${PROPERTIES[name].expected}`);
    return null;
  };
  return {
    bake: read('prebake', PROPERTIES.prebake.schema) ?? 'auto',
    minMemoryMb: read('prebake_min_memory_mb', PROPERTIES.prebake_min_memory_mb.schema),
    bakeTimeoutS: read('prebake_bake_timeout_s', PROPERTIES.prebake_bake_timeout_s.schema),
    problem: problems[0] ?? null,
  };
}
