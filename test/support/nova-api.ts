/** nova-api, Glance and the others of the all-in-one as a user of the cloud sees them: what integration tests drive. */
import { setTimeout as delay } from 'node:timers/promises';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import axios, { AxiosError, type AxiosInstance } from 'axios';
import { z } from 'zod';

/** Where the all-in-one keeps its state. */
export const CLOUD = process.env.PREBAKE_CLOUD ?? '/srv/prebake-cloud';
/** The compute host's own nova.conf. */
export const NOVA_CONF = join(CLOUD, 'etc', 'nova-compute.conf');

const serverSchema = z.looseObject({
  id: z.string(),
  name: z.string(),
  status: z.string(),
  'OS-EXT-STS:task_state': z.string().nullable(),
  'OS-EXT-STS:vm_state': z.string(),
  'OS-EXT-STS:power_state': z.number(),
  'OS-EXT-SRV-ATTR:instance_name': z.string(),
  'OS-EXT-SRV-ATTR:host': z.string().nullable(),
  addresses: z.record(z.string(), z.array(z.looseObject({ addr: z.string() }))),
  fault: z.looseObject({ code: z.number(), message: z.string(), details: z.string().optional() }).optional(),
});
/** A server as `GET /servers/<id>` shows it to the administrator. */
export type Server = z.infer<typeof serverSchema>;

/** Types of the catalogue that tests ask. */
type Service = 'compute' | 'identity' | 'image' | 'key-manager' | 'network' | 'placement';

/** What a server is made from. */
export interface ServerRequest {
  readonly name: string;
  readonly image: string;
  readonly flavor: string;
  readonly networks?:
    'none' | 'auto' | readonly { readonly uuid?: string; readonly port?: string; readonly tag?: string }[];
  /** What its user calls its root disk. */
  readonly diskTag?: string;
  readonly keyName?: string;
  readonly userData?: string;
  readonly configDrive?: boolean;
  /** Certificates that the signature of its image has to go back to, by their IDs in Barbican. */
  readonly trustedCertificates?: readonly string[];
  /** The compute host it is to run on; the scheduler's choice without. */
  readonly host?: string;
}

const tokenSchema = z.object({
  token: z.object({
    project: z.object({ id: z.string() }),
    catalog: z.array(
      z.object({
        type: z.string(),
        endpoints: z.array(z.object({ interface: z.string(), url: z.string() })),
      }),
    ),
  }),
});

/** The administrator of the all-in-one. */
export class NovaApi {
  private constructor(
    readonly http: AxiosInstance,
    /** Of the administrator's own project. */
    readonly projectId: string,
    private readonly endpoints: ReadonlyMap<string, string>,
  ) {}

  /** Logs in with what `devstack/openrc` says. */
  static async login(): Promise<NovaApi> {
    const text = await readFile(join(__dirname, '..', '..', 'devstack', 'openrc'), 'utf8');
    const variable = (name: string): string => {
      const value = new RegExp(`^export ${name}=(.*)$`, 'm').exec(text)?.[1];
      if (value === undefined) throw new Error(`devstack/openrc has no ${name}`);
      return value.replace(/^'(.*)'$/, '$1');
    };
    const http = axios.create({ timeout: 60_000, proxy: false });
    const answer = await http.post(`${variable('OS_AUTH_URL')}/auth/tokens`, {
      auth: {
        identity: {
          methods: ['password'],
          password: {
            user: {
              name: variable('OS_USERNAME'),
              password: variable('OS_PASSWORD'),
              domain: { name: variable('OS_USER_DOMAIN_NAME') },
            },
          },
        },
        scope: {
          project: {
            name: variable('OS_PROJECT_NAME'),
            domain: { name: variable('OS_PROJECT_DOMAIN_NAME') },
          },
        },
      },
    });
    http.interceptors.response.use(undefined, (error: unknown) => {
      throw error instanceof AxiosError ? new RequestFailed(error) : error;
    });
    http.defaults.headers.common['X-Auth-Token'] = String(answer.headers['x-subject-token']);
    http.defaults.headers.common['OpenStack-API-Version'] = 'compute 2.93';
    const { catalog, project } = tokenSchema.parse(answer.data).token;
    const endpoints = catalog.map((service) => {
      const found = service.endpoints.find((endpoint) => endpoint.interface === 'public');
      return [service.type, (found?.url ?? '').replace(/\/$/, '')] as const;
    });
    return new NovaApi(http, project.id, new Map(endpoints));
  }

  /** Base URL of a service of the catalogue. */
  url(service: Service): string {
    const url = this.endpoints.get(service);
    if (url === undefined) throw new Error(`the catalogue has no ${service}`);
    return url;
  }

  async flavorId(name: string): Promise<string> {
    return this.idByName('compute', '/flavors', 'flavors', name);
  }

  /** A flavor of a test's own; it deletes it again. */
  async makeFlavor(flavor: {
    readonly name: string;
    readonly memoryMb: number;
    readonly vcpus: number;
    readonly rootGb: number;
  }): Promise<string> {
    const { name, memoryMb, vcpus, rootGb } = flavor;
    const { data } = await this.http.post<unknown>(`${this.url('compute')}/flavors`, {
      flavor: { name, ram: memoryMb, vcpus, disk: rootGb },
    });
    return z.object({ flavor: z.object({ id: z.string() }) }).parse(data).flavor.id;
  }

  async setExtraSpecs(flavorId: string, extraSpecs: Readonly<Record<string, string>>): Promise<void> {
    if (Object.keys(extraSpecs).length === 0) return;
    const url = `${this.url('compute')}/flavors/${flavorId}/os-extra_specs`;
    await this.http.post(url, { extra_specs: extraSpecs });
  }

  async deleteFlavor(id: string): Promise<void> {
    await this.http.delete(`${this.url('compute')}/flavors/${id}`);
  }

  async imageId(name: string): Promise<string> {
    return this.idByName('image', `/v2/images?name=${name}`, 'images', name);
  }

  /** The server of exactly this name; null while there is none. */
  async serverId(name: string): Promise<string | null> {
    const list = z.object({ servers: z.array(z.object({ id: z.string(), name: z.string() })) });
    const { servers } = list.parse(await this.get('compute', `/servers?name=${name}`));
    return servers.find((server) => server.name === name)?.id ?? null;
  }

  /** The image of this name once its bytes are there; null until then. */
  async activeImage(name: string): Promise<string | null> {
    const list = z.object({ images: z.array(z.object({ id: z.string() })) });
    const { images } = list.parse(await this.get('image', `/v2/images?name=${name}&status=active`));
    return images[0]?.id ?? null;
  }

  async networkId(name: string): Promise<string> {
    return this.idByName('network', `/v2.0/networks?name=${name}`, 'networks', name);
  }

  async create(request: ServerRequest): Promise<string> {
    const { data } = await this.http.post<unknown>(`${this.url('compute')}/servers`, {
      server: {
        name: request.name,
        imageRef: request.image,
        flavorRef: request.flavor,
        networks: request.networks ?? [{ uuid: await this.networkId('private') }],
        ...(request.diskTag === undefined
          ? {}
          : {
              block_device_mapping_v2: [
                {
                  boot_index: 0,
                  uuid: request.image,
                  source_type: 'image',
                  destination_type: 'local',
                  delete_on_termination: true,
                  tag: request.diskTag,
                },
              ],
            }),
        ...(request.host === undefined ? {} : { host: request.host }),
        ...(request.keyName === undefined ? {} : { key_name: request.keyName }),
        ...(request.trustedCertificates === undefined
          ? {}
          : { trusted_image_certificates: request.trustedCertificates }),
        ...(request.configDrive === undefined ? {} : { config_drive: request.configDrive }),
        ...(request.userData === undefined
          ? {}
          : { user_data: Buffer.from(request.userData).toString('base64') }),
      },
    });
    return z.object({ server: z.object({ id: z.string() }) }).parse(data).server.id;
  }

  /** The server, or null when there is none (any more). */
  async show(id: string): Promise<Server | null> {
    const { data, status } = await this.http.get<unknown>(`${this.url('compute')}/servers/${id}`, {
      validateStatus: (code) => code === 200 || code === 404,
    });
    return status === 404 ? null : z.object({ server: serverSchema }).parse(data).server;
  }

  /** Waits until the server has no task and this status; ends early when it is in ERROR and that was not asked for. */
  async waitForStatus(
    id: string,
    status: string,
    timeoutMs = 180_000,
    { despiteError = false } = {},
  ): Promise<Server> {
    let last: Server | null = null;
    return waitFor(
      async () => {
        last = await this.show(id);
        if (last === null) throw new Error(`server ${id} is gone`);
        if (last.status === 'ERROR' && status !== 'ERROR' && !despiteError) {
          throw new Error(`server ${id} is in ERROR: ${last.fault?.message ?? 'no fault'}`);
        }
        return last.status === status && last['OS-EXT-STS:task_state'] === null ? last : null;
      },
      timeoutMs,
      () =>
        `server ${id} is ${last?.status ?? '?'}/${last?.['OS-EXT-STS:task_state'] ?? 'no task'}, not ${status}`,
    );
  }

  /** Waits until a server is on no host any more, which Nova saves after the status. */
  async waitForOffloaded(id: string): Promise<Server> {
    const offloaded = await this.waitForStatus(id, 'SHELVED_OFFLOADED');
    return waitFor(
      async () => {
        const server = await this.show(id);
        return server?.['OS-EXT-SRV-ATTR:host'] === null ? server : null;
      },
      60_000,
      () => `server ${id} is still on ${offloaded['OS-EXT-SRV-ATTR:host'] ?? 'no host'}`,
    );
  }

  /** Waits until Nova calls the compute service of this host enabled, or disabled, and up. */
  async waitForHostStatus(host: string, status: 'enabled' | 'disabled', timeoutMs = 60_000): Promise<void> {
    const list = z.object({ services: z.array(z.looseObject({ status: z.string(), state: z.string() })) });
    await waitFor(
      async () => {
        const path = `/os-services?binary=nova-compute&host=${host}`;
        const [service] = list.parse(await this.get('compute', path)).services;
        return service?.status === status && service.state === 'up' ? true : null;
      },
      timeoutMs,
      () => `the compute service of ${host} is not ${status}`,
    );
  }

  async waitForGone(id: string, timeoutMs = 60_000): Promise<void> {
    await waitFor(
      async () => ((await this.show(id)) === null ? true : null),
      timeoutMs,
      () => `server ${id} is still there`,
    );
  }

  async action(id: string, action: Readonly<Record<string, unknown>>): Promise<unknown> {
    const { data } = await this.http.post<unknown>(`${this.url('compute')}/servers/${id}/action`, action);
    return data;
  }

  async delete(id: string): Promise<void> {
    await this.http.delete(`${this.url('compute')}/servers/${id}`, {
      validateStatus: (code) => code === 204 || code === 404,
    });
  }

  async get(service: Service, path: string): Promise<unknown> {
    const { data } = await this.http.get<unknown>(`${this.url(service)}${path}`);
    return data;
  }

  /** Puts bytes into Glance under a new name; returns the image's id. */
  async upload(
    name: string,
    diskFormat: string,
    content: Buffer,
    properties: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const { data } = await this.http.post<unknown>(`${this.url('image')}/v2/images`, {
      name,
      disk_format: diskFormat,
      container_format: 'bare',
      visibility: 'private',
      ...properties,
    });
    const { id } = z.object({ id: z.string() }).parse(data);
    await this.http.put(`${this.url('image')}/v2/images/${id}/file`, content, {
      headers: { 'Content-Type': 'application/octet-stream' },
      maxBodyLength: Infinity,
    });
    return id;
  }

  /** Gives an image properties that it did not have. */
  async addProperties(imageId: string, properties: Readonly<Record<string, string>>): Promise<void> {
    const body = Object.entries(properties).map(([name, value]) => ({ op: 'add', path: `/${name}`, value }));
    await this.http.patch(`${this.url('image')}/v2/images/${imageId}`, body, {
      headers: { 'Content-Type': 'application/openstack-images-v2.1-json-patch' },
    });
  }

  async removeProperty(imageId: string, name: string): Promise<void> {
    await this.http.patch(`${this.url('image')}/v2/images/${imageId}`, [{ op: 'remove', path: `/${name}` }], {
      headers: { 'Content-Type': 'application/openstack-images-v2.1-json-patch' },
    });
  }

  /** Puts a certificate into Barbican; returns its id. */
  async storeCertificate(name: string, pem: string): Promise<string> {
    const { data } = await this.http.post<unknown>(`${this.url('key-manager')}/v1/secrets`, {
      name,
      secret_type: 'certificate',
      payload: Buffer.from(pem).toString('base64'),
      payload_content_type: 'application/octet-stream',
      payload_content_encoding: 'base64',
    });
    const { secret_ref: ref } = z.object({ secret_ref: z.string() }).parse(data);
    return ref.slice(ref.lastIndexOf('/') + 1);
  }

  /** What a secret of Barbican is called; null when there is none. */
  async secretName(id: string): Promise<string | null> {
    const { data, status } = await this.http.get<unknown>(`${this.url('key-manager')}/v1/secrets/${id}`, {
      headers: { Accept: 'application/json' },
      validateStatus: (code) => code === 200 || code === 404,
    });
    return status === 404 ? null : z.object({ name: z.string() }).parse(data).name;
  }

  async deleteSecret(id: string): Promise<void> {
    await this.http.delete(`${this.url('key-manager')}/v1/secrets/${id}`);
  }

  async deleteImage(id: string): Promise<void> {
    await this.http.delete(`${this.url('image')}/v2/images/${id}`);
  }

  private async idByName(
    service: 'compute' | 'image' | 'network',
    path: string,
    list: string,
    name: string,
  ): Promise<string> {
    const named = z.array(z.looseObject({ id: z.string(), name: z.string().nullable() }));
    const data = z.record(z.string(), z.unknown()).parse(await this.get(service, path));
    const found = named.parse(data[list]).find((item) => item.name === name);
    if (found === undefined) throw new Error(`there is no ${name} among the ${list}`);
    return found.id;
  }
}

/** Asks again until there is an answer; rejects with `describe()` when there is none in time. */
export async function waitFor<T>(
  ask: () => Promise<T | null>,
  timeoutMs: number,
  describe: () => string,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    if (Date.now() > deadline) throw new Error(`${describe()} after ${timeoutMs} ms`);
    await delay(250);
  }
}

/** What a request failed with, without the sockets of axios' own error: jest can report it from a worker. */
class RequestFailed extends Error {
  readonly response: { status: number; data: unknown } | undefined;

  constructor({ config, response, message }: AxiosError) {
    const request = `${config?.method?.toUpperCase() ?? '?'} ${config?.url ?? '?'}`;
    super(`${request}: ${message} ${JSON.stringify(response?.data ?? null)}`);
    this.name = 'RequestFailed';
    this.response = response && { status: response.status, data: response.data };
  }
}
