/** Times as Python's programs write them, where what reads them compares or shows the text. Both are in UTC, without a zone. */

/** str() of a datetime: `2026-01-02 03:04:05`, with microseconds where there are any. */
export function pythonTime(date: Date): string {
  return date.toISOString().replace('T', ' ').replace('.000Z', '').replace('Z', '000');
}

/** `oslo_utils.timeutils.strtime`: `2026-01-02T03:04:05.678000`. */
export function strtime(date: Date): string {
  return date.toISOString().replace('Z', '000');
}
