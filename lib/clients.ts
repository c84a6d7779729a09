/** Clients of the cloud's services, as this host's nova.conf says they are to be reached. */
import { type Config, type LoginSection, loginFrom } from './config';
import type { Logger } from './log';
import { Glance, KeystoneSession, Neutron, Placement } from './openstack';

/** The services a compute host talks to over HTTP. */
export interface Clients {
  readonly glance: Glance;
  readonly neutron: Neutron;
  readonly placement: Placement;
}

/** @throws ConfigError when a service has no credentials */
export function createClients(config: Config, logger: Logger): Clients {
  const session = (...sections: readonly [LoginSection, ...LoginSection[]]) => {
    const login = loginFrom(config, ...sections);
    return [new KeystoneSession(login, logger), login] as const;
  };
  const apiServer = config.glance.apiServers?.[0];
  const [glanceSession, glanceLogin] = session('glance', 'serviceUser', 'keystoneAuthtoken');
  return {
    glance: new Glance(
      glanceSession,
      apiServer === undefined ? glanceLogin : { endpointOverride: apiServer, ...glanceLogin },
    ),
    neutron: new Neutron(...session('neutron')),
    placement: new Placement(...session('placement')),
  };
}
