/** Conversations of nova-compute with a real cloud, as far as unit tests compare with them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(__dirname, '../unit/recorded');

type Json = Readonly<Record<string, unknown>>;

/** nova-compute's start: its authentication, an image's record, and what it told Placement. */
export const recordedStartup = read('startup.json') as {
  readonly authentication: Json;
  readonly image: Json;
  readonly placement: readonly {
    readonly method: string;
    readonly path: string;
    readonly status: number;
    readonly request: Json | null;
    readonly response: Json | null;
  }[];
};

/** A server's boot: its request, Neutron's records, and what nova-compute made of them. */
export const recordedCreate = read('create-network.json') as {
  readonly network: Json;
  readonly subnet: Json;
  readonly port: Json;
  readonly createPort: { readonly port: Json };
  readonly updatePort: { readonly port: Json };
  readonly noFloatingIps: Json;
  readonly networkInfo: readonly Json[];
  readonly requestedNetworks: Json;
  readonly instance: { readonly 'nova_object.data': Json };
};

function read(name: string): unknown {
  return JSON.parse(readFileSync(join(FOLDER, name), 'utf8'));
}
