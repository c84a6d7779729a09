/** Clients of the cloud's services, as this host's nova.conf says they are to be reached. */
import { type Config, ConfigError, type LoginSection, loginFrom } from './config';
import type { Logger } from './log';
import { Barbican, Glance, KeystoneSession, Neutron, Placement } from './openstack';
import { SignedImages } from './signed-images';

/** The services a compute host talks to over HTTP. */
export interface Clients {
  readonly glance: Glance;
  /** Glance's images, their signatures verified where that is asked for. */
  readonly images: SignedImages;
  readonly neutron: Neutron;
  readonly placement: Placement;
  /** The key manager; its login is looked for when it is first needed. @throws ConfigError */
  readonly keyManager: () => Barbican;
}

/** Castellan's name for Barbican, the entry point and the class behind it. */
const BARBICAN = ['barbican', 'castellan.key_manager.barbican_key_manager.BarbicanKeyManager'];

/** @throws ConfigError when a service has no credentials */
export function createClients(config: Config, logger: Logger): Clients {
  const session = (...sections: readonly [LoginSection, ...LoginSection[]]) => {
    const login = loginFrom(config, ...sections);
    return [new KeystoneSession(login, logger), login] as const;
  };
  const apiServer = config.glance.apiServers?.[0];
  const [glanceSession, glanceLogin] = session('glance', 'serviceUser', 'keystoneAuthtoken');
  const glance = new Glance(
    glanceSession,
    apiServer === undefined ? glanceLogin : { endpointOverride: apiServer, ...glanceLogin },
  );
  let barbican: Barbican | undefined;
  const keyManager = (): Barbican => (barbican ??= createBarbican(config, logger));
  return {
    glance,
    images: new SignedImages({ glance, keyManager, options: config.glance, logger }),
    neutron: new Neutron(...session('neutron')),
    placement: new Placement(...session('placement')),
    keyManager,
  };
}

function createBarbican(config: Config, logger: Logger): Barbican {
  if (!BARBICAN.includes(config.keyManager.backend)) {
    throw new ConfigError([
      { where: '[key_manager] backend', expected: `barbican, not ${config.keyManager.backend}` },
    ]);
  }
  const login = loginFrom(config, 'serviceUser', 'keystoneAuthtoken');
  const { verifySsl, verifySslPath, barbicanEndpointType, barbicanRegionName, barbicanEndpoint } =
    config.barbican;
  const tls = {
    insecure: login.insecure || !verifySsl,
    ...(verifySslPath === null ? {} : { cafile: verifySslPath }),
  };
  return new Barbican(new KeystoneSession({ ...login, ...tls }, logger), {
    validInterfaces: [barbicanEndpointType],
    ...(barbicanRegionName === null ? {} : { regionName: barbicanRegionName }),
    ...(barbicanEndpoint === null ? {} : { endpointOverride: barbicanEndpoint }),
  });
}
