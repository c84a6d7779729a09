/** Shapes that fields of several objects share. */
import { z } from 'zod';

export const text = z.string();
export const nullableText = z.string().nullable();
export const integer = z.number().int();
export const nullableInteger = z.number().int().nullable();
export const flag = z.boolean();
export const uuid = z.guid();
export const textList = z.array(z.string());
export const stringMap = z.record(z.string(), z.string());
/** Nova stores null for some keys of system_metadata. */
export const nullableStringMap = z.record(z.string(), z.string().nullable());
export const nullableDate = z
  .string()
  .nullable()
  .transform((value, context) => {
    if (value === null) return null;
    const date = new Date(value);
    if (!Number.isNaN(date.getTime())) return date;
    context.addIssue({ code: 'custom', message: 'not a date' });
    return z.NEVER;
  });
