/** The object store of this host, as nova.conf describes it. */
import type { Logger } from 'pino';
import { type Config, loginFrom } from '../config';
import { KeystoneSession, ObjectStore } from '../openstack';
import { Claims } from './claims';
import { Pace } from './pace';
import type { SharedStore } from './supply';
import { UvmStore } from './uvm-store';

const MIB = 1024 ** 2;

/** Undefined when µVMs are not shared. @throws ConfigError without credentials */
export function openStore(config: Config, logger: Logger): SharedStore | undefined {
  const { objectStore, objectStoreContainer, fetchLimitMibS, uploadLimitMibS } = config.prebake;
  if (objectStore === 'none') return undefined;
  const login = loginFrom(config, 'serviceUser', 'keystoneAuthtoken');
  const objects = new ObjectStore(new KeystoneSession(login, logger), objectStoreContainer, login);
  return {
    store: new UvmStore(objects),
    claims: new Claims(objects, config.default.host, logger),
    fetchPace: new Pace(fetchLimitMibS * MIB),
    uploadPace: new Pace(uploadLimitMibS * MIB),
  };
}
