/** The TPMs of a host that emulates none: no key manager is asked. */
import pino from 'pino';
import type { InstanceRecords } from '../../lib/compute/instance-records';
import { Vtpm } from '../../lib/compute/vtpm';

export function noVtpm(records: InstanceRecords): Vtpm {
  const keyManager = (): never => {
    throw new Error('the key manager was asked');
  };
  return new Vtpm({ keyManager, records, logger: pino({ level: 'silent' }), enabled: false });
}
