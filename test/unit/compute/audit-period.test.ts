/** Audit periods as nova/utils.py (last_completed_audit_period) cuts them. */
import { lastAuditPeriod } from '../../../lib/compute/audit-period';

test.each([
  ['hour', '2026-03-10T12:34:56Z', '2026-03-10T11:00', '2026-03-10T12:00'],
  ['hour@50', '2026-03-10T12:34:56Z', '2026-03-10T10:50', '2026-03-10T11:50'],
  ['day', '2026-03-01T12:34:56Z', '2026-02-28T00:00', '2026-03-01T00:00'],
  ['day@18', '2026-03-01T12:34:56Z', '2026-02-27T18:00', '2026-02-28T18:00'],
  ['month', '2026-01-10T12:34:56Z', '2025-12-01T00:00', '2026-01-01T00:00'],
  ['month@15', '2026-01-10T12:34:56Z', '2025-11-15T00:00', '2025-12-15T00:00'],
  ['year', '2026-03-10T12:34:56Z', '2025-01-01T00:00', '2026-01-01T00:00'],
  ['year@4', '2026-03-10T12:34:56Z', '2024-04-01T00:00', '2025-04-01T00:00'],
  // A period that ends this very moment is not over yet.
  ['hour', '2026-03-10T12:00:00Z', '2026-03-10T10:00', '2026-03-10T11:00'],
])('the last %s before %s', (unit, now, begin, end) => {
  expect(lastAuditPeriod(unit, new Date(now))).toEqual({
    begin: new Date(`${begin}:00Z`),
    end: new Date(`${end}:00Z`),
  });
});

test('knows no other units', () => {
  expect(() => lastAuditPeriod('week', new Date())).toThrow(RangeError);
});
