/** The services of the cloud: each login and its roles, Placement, the L2 agent and the mapping of this host, Glance. */
import { z } from 'zod';
import { EndpointNotFound, type EndpointOptions, type KeystoneSession, isHttpError } from '../openstack';
import { describeError } from '../exceptions';
import { type Check, type Finding, fail, ok, skip, warn } from './check';
import { whoAmI } from './who-am-i';

/** One login of nova.conf, and the service it is for. */
export interface CloudLogin {
  /** For messages: `[placement]`. */
  readonly section: string;
  readonly session: Pick<KeystoneSession, 'send' | 'token'>;
  readonly authUrl: string;
  readonly endpoint: EndpointOptions;
}

/** Makes the login when it is first needed; throws the ConfigError of a section without one. */
export type OpenLogin = () => CloudLogin;

/** Roles of which a service user has one: `service` is the one of newer clouds. */
const SERVICE_ROLES = ['admin', 'service'];
const SKEW_WARN_MS = 2000;
const SKEW_FAIL_MS = 30_000;
/** nova-api's largest page, by default. */
const PAGE = 1000;
const COMPUTE_API = { 'OpenStack-API-Version': 'compute 2.53' };

/** Login and roles. @param name of the check; @param strict whether a missing role stops the service */
export function keystoneCheck(
  name: string,
  open: OpenLogin,
  {
    roles: wanted = SERVICE_ROLES,
    otherwise,
  }: { readonly roles?: readonly string[]; readonly otherwise?: string } = {},
): Check {
  return {
    name,
    fix: 'see that auth_url of the section is reachable and Keystone runs',
    run: async () => {
      const { section, session, authUrl } = open();
      let who;
      try {
        who = await whoAmI(session, authUrl);
      } catch (error) {
        if (!isHttpError(error, 401, 403, 404)) throw error;
        const fix = `correct auth_url, username, password, project and domains in ${section}`;
        return fail(`${section}: Keystone refuses the login: ${describeError(error)}`, fix);
      }
      const { userName, projectName, roles } = who;
      const detail = `${section}: user ${userName} in project ${projectName ?? 'none'} with roles ${roles.join(', ') || 'none'}`;
      if (roles.some((role) => wanted.includes(role))) return ok(detail);
      const fix = `openstack role add --user ${userName} --project ${projectName ?? 'service'} ${wanted[0] ?? 'admin'}`;
      return otherwise === undefined
        ? fail(`${detail}; needs ${wanted.join(' or ')}`, fix)
        : warn(`${detail}; without ${wanted.join(' or ')} ${otherwise}`, fix);
    },
  };
}

/** This machine's clock against Keystone's. @param open a login that nobody has used before */
export function clockCheck(open: OpenLogin, needs: string): Check {
  return {
    name: 'clock',
    needs: [needs],
    fix: 'see that Keystone answers',
    run: async () => {
      const { session, authUrl } = open();
      const { clock } = await whoAmI(session, authUrl);
      if (clock === null) return skip('Keystone does not say what time it is');
      // Keystone shows whole seconds: it may be up to one later there.
      const earliest = clock.atMs - clock.untilMs;
      const latest = clock.atMs + 999 - clock.fromMs;
      const skewMs = earliest > 0 ? earliest : Math.min(0, latest);
      const fix = 'synchronise the clocks: apt-get install chrony, then chronyc makestep';
      if (Math.abs(skewMs) <= SKEW_WARN_MS) return ok("agrees with Keystone's");
      const detail = `${(Math.abs(skewMs) / 1000).toFixed(1)} s ${skewMs < 0 ? 'ahead of' : 'behind'} Keystone's; servers get this clock`;
      return Math.abs(skewMs) > SKEW_FAIL_MS ? fail(detail, fix) : warn(detail, fix);
    },
  };
}

/** Runs `work`, with a fix that fits how a service call fails. */
async function asking(
  service: string,
  { section }: CloudLogin,
  work: () => Promise<Finding>,
): Promise<Finding> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof EndpointNotFound) {
      return fail(
        error.message,
        `openstack endpoint create for ${service}, or correct region_name and valid_interfaces in ${section}`,
      );
    }
    if (isHttpError(error, 401, 403)) {
      return fail(describeError(error), `give the user of ${section} the role admin (or service)`);
    }
    throw error;
  }
}

export function placementCheck(open: OpenLogin, needs: string): Check {
  return {
    name: 'placement',
    needs: [needs],
    fix: 'start Placement, or correct its endpoint (openstack endpoint list --service placement)',
    run: (signal) => {
      const login = open();
      return asking('placement', login, async () => {
        const query = { limit: '1', resources: 'VCPU:1' };
        const headers = { 'OpenStack-API-Version': 'placement 1.16' };
        await login.session.send('placement', login.endpoint, {
          method: 'GET',
          path: '/allocation_candidates',
          query,
          headers,
          signal,
        });
        return ok('answers');
      });
    },
  };
}

const Agents = z.object({
  agents: z.array(
    z.object({
      agent_type: z.string(),
      host: z.string(),
      alive: z.boolean(),
      admin_state_up: z.boolean(),
    }),
  ),
});
const L2_AGENT = /bridge agent|vswitch agent|ovn controller|nic switch|macvtap/i;
const SUPPORTED_L2_AGENT = 'Linux bridge agent';

/** @param host `[DEFAULT] host` */
export function neutronAgentCheck(open: OpenLogin, host: string, needs: string): Check {
  return {
    name: 'neutron-agent',
    needs: [needs],
    fix: 'start neutron-server, or correct its endpoint (openstack endpoint list --service network)',
    run: (signal) => {
      const login = open();
      return asking('network', login, async () => {
        const answer = await login.session.send('network', login.endpoint, {
          method: 'GET',
          path: '/v2.0/agents',
          signal,
        });
        const l2 = Agents.parse(answer.body).agents.filter((agent) => L2_AGENT.test(agent.agent_type));
        return judgeAgents(l2, host);
      });
    },
  };
}

function judgeAgents(l2: z.infer<typeof Agents>['agents'], host: string): Finding {
  const here = l2.filter((agent) => agent.host === host);
  const [agent] = here;
  if (agent === undefined) {
    const others = l2.map((other) => other.host);
    const near = others.find(
      (other) => other.split('.')[0]?.toLowerCase() === host.split('.')[0]?.toLowerCase(),
    );
    return near === undefined
      ? fail(
          `Neutron knows no L2 agent of host ${host}`,
          `start neutron-linuxbridge-agent on this host; its host (of neutron.conf) must be [DEFAULT] host, '${host}'`,
        )
      : fail(
          `Neutron's L2 agent here calls its host '${near}', nova.conf calls it '${host}': ports cannot be bound`,
          `give both the same name: set host = ${near} in [DEFAULT] of nova.conf, or host = ${host} in neutron.conf`,
        );
  }
  const supported = here.find((candidate) => candidate.agent_type === SUPPORTED_L2_AGENT);
  if (supported === undefined) {
    return fail(
      `the L2 agent of host ${host} is a ${agent.agent_type}; prebake plugs into Linux bridges`,
      'use the Linux bridge agent on this host',
    );
  }
  if (!supported.alive) {
    return fail(
      `the ${SUPPORTED_L2_AGENT} of host ${host} gives no sign of life`,
      'systemctl restart neutron-linuxbridge-agent, and look into its log',
    );
  }
  if (!supported.admin_state_up) {
    return warn(
      `the ${SUPPORTED_L2_AGENT} of host ${host} is switched off`,
      'openstack network agent set --enable its ID',
    );
  }
  return ok(`the ${SUPPORTED_L2_AGENT} of host ${host} is alive`);
}

const Services = z.object({
  services: z.array(
    z.object({
      host: z.string(),
      status: z.string(),
      state: z.string(),
      disabled_reason: z.string().nullish(),
      forced_down: z.boolean().optional(),
    }),
  ),
});
const Hypervisors = z.object({
  hypervisors: z.array(z.object({ service: z.object({ host: z.string() }) })),
});

/**
 * Whether Nova has this host: registered by its first start, then mapped to its cell. nova-api lists no hypervisor whose
 * host is not mapped.
 */
export function discoveryCheck(open: OpenLogin, host: string, needs: string): Check {
  return {
    name: 'discovery',
    needs: [needs],
    fix: 'start nova-api, or correct its endpoint (openstack endpoint list --service compute)',
    run: (signal) => {
      const login = open();
      return asking('compute', login, async () => {
        const get = async (path: string, query: Record<string, string>): Promise<unknown> => {
          const call = { method: 'GET', path: `/v2.1${path}`, query, headers: COMPUTE_API, signal } as const;
          return (await login.session.send('compute', login.endpoint, call)).body;
        };
        const { services } = Services.parse(await get('/os-services', { binary: 'nova-compute', host }));
        const [service] = services;
        if (service === undefined) {
          return warn(
            `Nova has no compute service of host ${host} yet`,
            'start prebake-compute once, then nova-manage cell_v2 discover_hosts',
          );
        }
        const { hypervisors } = Hypervisors.parse(
          await get('/os-hypervisors/detail', { limit: String(PAGE) }),
        );
        const mapped = hypervisors.some((hypervisor) => hypervisor.service.host === host);
        if (!mapped && hypervisors.length < PAGE) {
          return fail(
            `host ${host} is registered, but not mapped to its cell: nothing is scheduled to it`,
            'nova-manage cell_v2 discover_hosts --verbose (on a controller)',
          );
        }
        if (service.forced_down === true) {
          return warn(
            `the service of host ${host} is forced down`,
            `openstack compute service set --up ${host} nova-compute`,
          );
        }
        if (service.status === 'disabled') {
          return warn(
            `the service of host ${host} is disabled (${service.disabled_reason ?? 'no reason given'})`,
            `openstack compute service set --enable ${host} nova-compute`,
          );
        }
        if (service.state !== 'up') {
          return warn(
            `the service of host ${host} is down`,
            'start prebake-compute (systemctl start prebake-compute)',
          );
        }
        return ok(`host ${host} is registered, mapped, enabled and up`);
      });
    },
  };
}

export function glanceCheck(open: OpenLogin, needs: string): Check {
  return {
    name: 'glance',
    needs: [needs],
    fix: 'start Glance, or correct [glance] api_servers or its endpoint (openstack endpoint list --service image)',
    run: (signal) => {
      const login = open();
      return asking('image', login, async () => {
        const call = { method: 'GET', path: '/v2/images', query: { limit: '1' }, signal } as const;
        await login.session.send('image', login.endpoint, call);
        return ok('answers');
      });
    },
  };
}
