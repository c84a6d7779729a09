/**
 * The proof that a µVM works and that its clones are nobody's twins: two of them become two servers, and are asked for
 * everything that makes a server. A µVM that does not pass is not offered.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { allOrFirstFailure } from '../all-or-first-failure';
import type {
  ImageSpec,
  InstanceIdentity,
  ProofClone,
  TemplateDriver,
  UvmTemplate,
} from '../../drivers/driver';
import type { Vif } from '../objects';
import type { GateAnswers } from './gate-protocol';

/** Clones did not become what they were told to, or are alike; the message says in what. */
export class ProofFailed extends Error {
  override readonly name = 'ProofFailed';
}

/** What a proof works with. */
export interface Proof {
  readonly driver: Pick<TemplateDriver, 'proveTemplate'>;
  readonly uvm: UvmTemplate;
  readonly image: ImageSpec;
  /** Scratch for the clones' files. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** Restores two clones side by side and compares them. @throws ProofFailed; what the driver throws */
export async function proveUvm({ driver, ...request }: Proof): Promise<void> {
  const identities = [inventedIdentity(), inventedIdentity()];
  const proven = await allOrFirstFailure(
    identities.map((identity, index) =>
      driver.proveTemplate({ ...request, identity, network: [inventedPort(index)] }),
    ),
  );
  const problems = [
    ...proven.flatMap((clone, index) => notAsTold(clone, identities[index], addressOf(index))),
    ...twins(proven.map(({ answers }) => answers)),
  ];
  if (problems.length > 0) throw new ProofFailed(`test clones failed: ${problems.join(', ')}`);
}

/** In what a clone differs from what it was told to be and given. */
function notAsTold(
  { answers, ready, given }: ProofClone,
  told: InstanceIdentity | undefined,
  address: string,
): string[] {
  return [
    answers.addresses.some((text) => withoutName(text).split('/')[0] === address)
      ? ''
      : `an address is ${answers.addresses.map(withoutName).join(' and ') || 'missing'}`,
    answers.hostname === told?.hostname ? '' : `a hostname is ${answers.hostname}`,
    answers.instanceId === told?.uuid ? '' : `an instance id is ${answers.instanceId}`,
    // Empty in an image without a default user.
    answers.userKeys.length === 0 || told?.publicKeys.every((key) => hasKey(answers, key)) === true
      ? ''
      : "a user's key is missing",
    ready.vcpus === given.vcpus ? '' : `one has ${ready.vcpus} vCPUs instead of ${given.vcpus}`,
    ready.rootBytes === given.rootBytes ? '' : `one has a root disk of ${ready.rootBytes} bytes`,
  ].filter((problem) => problem !== '');
}

function hasKey({ userKeys }: GateAnswers, publicKey: string): boolean {
  return userKeys.includes(publicKey.split(' ', 2).join(' '));
}

/**
 * What makes a guest the one it is, by name: of each, no two guests may have anything in common. Not here is what
 * docs/security.md says that clones share: boot_id, product_uuid, invocation ids of units that ran at the bake.
 */
const OWN_ITEMS: Readonly<Record<string, (answers: GateAnswers) => readonly string[]>> = {
  hostname: ({ hostname }) => [hostname],
  'machine id': ({ machineId }) => [machineId],
  'machine id of D-Bus': ({ dbusMachineId }) => [dbusMachineId],
  'instance id': ({ instanceId }) => [instanceId],
  'instance id of cloud-init': ({ cloudInstanceId }) => [cloudInstanceId],
  'host key': ({ hostKeys }) => hostKeys,
  'random seed': ({ randomSeed }) => [randomSeed],
  'random numbers': ({ random }) => [random],
  'UUID of the kernel': ({ kernelUuid }) => [kernelUuid],
  'MAC address': ({ macs }) => macs.map(withoutName),
  address: ({ addresses }) => addresses.map(withoutName),
  'DHCP client id': ({ dhcpIds }) => dhcpIds,
  'journal id': ({ journalIds }) => journalIds,
};

/**
 * What guests have in common although each should have its own. Something that an image does not have is empty, and empty
 * things are no twins.
 */
export function twins(guests: readonly GateAnswers[]): string[] {
  return Object.entries(OWN_ITEMS).flatMap(([name, of]) => {
    const values = guests.flatMap((guest) => [...new Set(of(guest))].filter((value) => value !== ''));
    const twice = values.find((value, index) => values.indexOf(value) < index);
    return twice === undefined ? [] : [`clones have the same ${name} (${twice.slice(0, 80)})`];
  });
}

/** Of `ens3 fa:16:3e:00:00:01` what comes after the name of the card. */
function withoutName(text: string): string {
  return text.slice(text.indexOf(' ') + 1);
}

function inventedIdentity(): InstanceIdentity {
  const uuid = randomUUID();
  const hostname = `proof-${uuid.slice(0, 8)}`;
  const content = Buffer.from(JSON.stringify({ uuid, hostname, name: hostname }));
  return {
    uuid,
    hostname,
    publicKeys: [`${ed25519PublicKey(randomBytes(32))} proof`],
    adminPassword: null,
    userData: null,
    files: [{ path: 'openstack/latest/meta_data.json', content }],
    configDrive: true,
  };
}

/** Of the network that is kept for documentation (RFC 5737). */
function addressOf(clone: number): string {
  return `198.51.100.${clone + 10}`;
}

function inventedPort(clone: number): Vif {
  return {
    id: randomUUID(),
    address: `52:54:00:ba:4e:${(clone + 16).toString(16)}`,
    type: 'unbound',
    devname: null,
    active: false,
    preserve_on_delete: false,
    network: {
      id: randomUUID(),
      bridge: null,
      meta: {},
      subnets: [
        {
          cidr: '198.51.100.0/24',
          version: 4,
          dns: [],
          gateway: null,
          ips: [{ address: addressOf(clone) }],
          routes: [],
        },
      ],
    },
  };
}

/** As in a line of authorized_keys (RFC 8709); nobody has the private half. */
function ed25519PublicKey(point: Buffer): string {
  const type = 'ssh-ed25519';
  const field = (content: Buffer): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(content.length);
    return Buffer.concat([length, content]);
  };
  return `${type} ${Buffer.concat([field(Buffer.from(type)), field(point)]).toString('base64')}`;
}
