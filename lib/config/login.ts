/** From a section of nova.conf to what a client of Keystone needs. */
import { ConfigError } from './errors';
import { toSectionName } from './names';
import type { Config } from './load';

/** Sections that can hold credentials. */
export type LoginSection = 'keystoneAuthtoken' | 'serviceUser' | 'placement' | 'neutron' | 'glance';

/** Credentials and endpoint preferences; what is unset is absent. */
export interface Login {
  readonly authUrl: string;
  readonly password: string;
  readonly username?: string;
  readonly userId?: string;
  readonly userDomainName?: string;
  readonly userDomainId?: string;
  readonly projectName?: string;
  readonly projectId?: string;
  readonly projectDomainName?: string;
  readonly projectDomainId?: string;
  readonly cafile?: string;
  readonly insecure: boolean;
  readonly timeoutMs?: number;
  readonly regionName?: string;
  readonly endpointOverride?: string;
  readonly validInterfaces: readonly string[];
}

/**
 * The credentials in the first of `sections` that has any, with the endpoint preferences of the first section.
 *
 * @throws ConfigError when none has
 */
export function loginFrom(config: Config, ...sections: readonly [LoginSection, ...LoginSection[]]): Login {
  const preferences = config[sections[0]];
  for (const section of sections) {
    const found = config[section];
    if (found.authUrl === null || found.password === null) continue;
    return {
      authUrl: found.authUrl,
      password: found.password,
      ...present('username', found.username),
      ...present('userId', found.userId),
      ...present('userDomainName', found.userDomainName),
      ...present('userDomainId', found.userDomainId),
      ...present('projectName', found.projectName),
      ...present('projectId', found.projectId),
      ...present('projectDomainName', found.projectDomainName),
      ...present('projectDomainId', found.projectDomainId),
      ...present('cafile', found.cafile ?? preferences.cafile),
      insecure: found.insecure || preferences.insecure,
      ...present('timeoutMs', preferences.timeout === null ? null : preferences.timeout * 1000),
      ...present('regionName', preferences.regionName ?? found.regionName),
      ...present('endpointOverride', preferences.endpointOverride),
      validInterfaces: preferences.validInterfaces,
    };
  }
  const names = sections.map((section) => `[${toSectionName(section)}]`).join(' or ');
  throw new ConfigError([
    { where: 'nova.conf', expected: `auth_url, username and password in section ${names}` },
  ]);
}

function present<K extends string, V>(key: K, value: V | null): { readonly [P in K]?: V } {
  return value === null ? {} : ({ [key]: value } as { readonly [P in K]: V });
}
