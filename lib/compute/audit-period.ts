/**
 * The stretches of time by which usage is counted (`instance_usage_audit_period`, nova/utils.py,
 * last_completed_audit_period): hours, days, months or years of UTC, begun later by an offset: `day@18`, `month@15`.
 */

/** From `begin` up to `end`. */
export interface AuditPeriod {
  readonly begin: Date;
  readonly end: Date;
}

/** The latest period of `unit` (as the option has it) that was over before `now`. @throws RangeError for what is no unit */
export function lastAuditPeriod(unit: string, now: Date): AuditPeriod {
  const [name, digits = '0'] = unit.split('@');
  const begins = beginnings(name, Number(digits), now);
  const over = begins(0).getTime() < now.getTime() ? 0 : 1;
  return { begin: begins(over + 1), end: begins(over) };
}

/** Gives the beginning of the period that `now` is in by the calendar, and of those so many before it. */
function beginnings(name: string | undefined, offset: number, now: Date): (back: number) => Date {
  const year = now.getUTCFullYear();
  const month = now.getUTCMonth();
  const day = now.getUTCDate();
  const hour = now.getUTCHours();
  const utc = (...at: Parameters<typeof Date.UTC>): Date => new Date(Date.UTC(...at));
  // Days and months are counted from 1.
  const first = Math.max(1, offset);
  switch (name ?? '') {
    case 'hour':
      return (back) => utc(year, month, day, hour - back, offset);
    case 'day':
      return (back) => utc(year, month, day - back, offset);
    case 'month':
      return (back) => utc(year, month - back, first);
    case 'year':
      return (back) => utc(year - back, first - 1);
    default:
      throw new RangeError('an audit period is hour, day, month or year, with @ and a number at most');
  }
}
