/** The proof of a µVM: what two clones may have in common, and what not. */
import type { ProofClone, ProofRequest, UvmTemplate } from '../../drivers/driver';
import type { GateAnswers } from '../../lib/bake';
import { proveUvm, twins } from '../../lib/bake/proof';

const ANSWERS: GateAnswers = {
  hostname: 'a',
  machineId: '1'.repeat(32),
  dbusMachineId: '',
  bootId: 'b',
  productUuid: 'p',
  instanceId: 'i',
  cloudInstanceId: '',
  cloudStatus: '',
  hostKeys: ['ssh-ed25519 AAAA', 'ecdsa-sha2-nistp256 BBBB'],
  userKeys: [],
  randomSeed: '',
  random: 'r',
  kernelUuid: 'u',
  macs: ['ens3 fa:16:3e:00:00:01'],
  dhcpIds: [],
  journalIds: [],
  invocationIds: ['ssh.service 1'],
  survivors: [],
  leftovers: [],
  addresses: [],
  dnsServers: [],
  vcpus: 2,
  memoryMb: 600,
  rootBytes: 7,
  rootFilesystemBytes: 6,
  disks: [],
  swaps: [],
  timeMs: 1,
};
const OTHER: GateAnswers = {
  ...ANSWERS,
  hostname: 'b',
  machineId: '2'.repeat(32),
  instanceId: 'j',
  hostKeys: ['ssh-ed25519 CCCC', 'ecdsa-sha2-nistp256 DDDD'],
  random: 's',
  kernelUuid: 'v',
  macs: ['ens3 fa:16:3e:00:00:02'],
};

describe('twins', () => {
  test('guests that share what is shared by construction are none', () => {
    expect(twins([ANSWERS, OTHER])).toEqual([]);
  });

  test.each([
    [{ machineId: ANSWERS.machineId }, 'machine id'],
    [{ hostname: 'a' }, 'hostname'],
    [{ random: 'r' }, 'random numbers'],
    [{ hostKeys: ['ecdsa-sha2-nistp256 BBBB'] }, 'host key (ecdsa-sha2-nistp256 BBBB)'],
    [{ macs: ['eth0 fa:16:3e:00:00:01'] }, 'MAC address'],
  ])('%j is noticed', (same, name) => {
    expect(twins([ANSWERS, { ...OTHER, ...same }])).toEqual([
      expect.stringContaining(`clones have the same ${name}`) as string,
    ]);
  });

  test('what an image does not have is no twin', () => {
    expect(
      twins([
        { ...ANSWERS, machineId: '' },
        { ...OTHER, machineId: '' },
      ]),
    ).toEqual([]);
  });
});

describe('the proof of a µVM', () => {
  const uvm = { key: 'k' } as UvmTemplate;
  const image = { id: 'image' } as ProofRequest['image'];
  const given = { vcpus: 2, rootBytes: 7 };
  const ready = { vcpus: 2, memoryMb: 600, rootBytes: 7, stepsMs: {} };
  const prove = (clone: (request: ProofRequest) => Promise<ProofClone>): Promise<void> =>
    proveUvm({
      driver: { proveTemplate: clone },
      uvm,
      image,
      directory: '/scratch',
      signal: new AbortController().signal,
    });
  const asTold = (answers: GateAnswers, { identity, network }: ProofRequest): ProofClone => ({
    ready,
    given,
    answers: {
      ...answers,
      hostname: identity.hostname,
      instanceId: identity.uuid,
      addresses: network.map((vif) => `ens17 ${vif.network.subnets[0]?.ips[0]?.address ?? ''}/24`),
    },
  });

  test('asks two clones, each someone else', async () => {
    const told: string[] = [];
    await prove((request) => {
      const { identity, network } = request;
      const macs = network.map(({ address }) => address);
      told.push(identity.uuid, identity.hostname, ...identity.publicKeys, ...macs);
      return Promise.resolve(asTold(told.length === 4 ? ANSWERS : OTHER, request));
    });
    expect(new Set(told).size).toBe(8);
  });

  test('fails for clones that are alike, and says in what', async () => {
    await expect(prove((request) => Promise.resolve(asTold(ANSWERS, request)))).rejects.toThrow(
      /same machine id .*same host key .*same random numbers/,
    );
  });

  test('fails for a clone that did not become what it was told to', async () => {
    let clones = 0;
    const clone = (request: ProofRequest): Promise<ProofClone> => {
      clones += 1;
      const answers = clones === 1 ? ANSWERS : OTHER;
      return Promise.resolve({ ...asTold(answers, request), answers, ready: { ...ready, vcpus: 1 } });
    };
    await expect(prove(clone)).rejects.toThrow(
      /an address is [^,]*, a hostname is a, an instance id is i, one has 1 vCPUs instead of 2/,
    );
  });

  test("fails for a clone without its user's key, in an image that has a user", async () => {
    let clones = 0;
    const clone = (request: ProofRequest): Promise<ProofClone> => {
      clones += 1;
      const userKeys = ["ssh-rsa the-image's-own"];
      return Promise.resolve(asTold({ ...(clones === 1 ? ANSWERS : OTHER), userKeys }, request));
    };
    await expect(prove(clone)).rejects.toThrow("a user's key is missing");
  });

  test('fails with what a clone failed with, once both are over', async () => {
    let over = 0;
    const clone = async (): Promise<ProofClone> => {
      await new Promise((resolve) => setImmediate(resolve));
      over += 1;
      throw new Error('no gate channel');
    };
    await expect(prove(clone)).rejects.toThrow('no gate channel');
    expect(over).toBe(2);
  });
});
