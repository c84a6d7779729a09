/** Images with signatures: verified with certificates of a real Barbican before anything is made of them. */
import { constants, sign } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { z } from 'zod';
import { createClients } from '../../lib/clients';
import { loadConfig } from '../../lib/config';
import { CertificateValidationFailed, SignatureVerificationError } from '../../lib/exceptions';
import type { SignedImages } from '../../lib/signed-images';
import { authority, CertificateMaker, type Certified } from '../support/certificates';
import { ComputeProcess } from '../support/compute-process';
import { CLOUD, NOVA_CONF, NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, bakeImage, run } from '../support/servers';

const CONTENT = Buffer.alloc(5000, 'what is in an image ');
const logger = pino({ level: 'silent' });

let directory: string;
let nova: NovaApi;
let maker: CertificateMaker;
let root: Certified;
let signer: Certified;
let rootId: string;
let signerId: string;
const images: string[] = [];
const secrets: string[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'prebake-signed-'));
  nova = await NovaApi.login();
  maker = new CertificateMaker(directory);
  root = await maker.make('root', { ...authority(0) });
  signer = await maker.make('signer', { issuer: root });
  [rootId, signerId] = [await store('root', root), await store('signer', signer)];
});
afterAll(async () => {
  for (const id of images) await nova.deleteImage(id);
  for (const id of secrets) await nova.deleteSecret(id);
  await rm(directory, { recursive: true });
});

async function store(name: string, { pem }: Certified): Promise<string> {
  const id = await nova.storeCertificate(`test ${name}`, pem);
  secrets.push(id);
  return id;
}

/** RSA-PSS with the longest salt. */
function pssSignature(content: Buffer, { key }: Certified, saltLength?: number): Buffer {
  const padding = constants.RSA_PKCS1_PSS_PADDING;
  const longest = constants.RSA_PSS_SALTLEN_MAX_SIGN;
  return sign('sha256', content, { key, padding, saltLength: saltLength ?? longest });
}

interface Signed {
  readonly signature: Buffer;
  readonly certificateId?: string;
  readonly keyType?: string;
}

function signatureProperties({
  signature,
  certificateId = signerId,
  keyType = 'RSA-PSS',
}: Signed): Record<string, string> {
  return {
    prebake: 'never',
    os_shutdown_timeout: '0',
    img_signature: signature.toString('base64'),
    img_signature_hash_method: 'SHA-256',
    img_signature_key_type: keyType,
    img_signature_certificate_uuid: certificateId,
  };
}

/** Glance takes it only if its own verification, the library that Nova uses as well, agrees. */
async function upload(content: Buffer, signed: Signed | null, diskFormat = 'raw'): Promise<string> {
  const id = await nova.upload(
    'signed',
    diskFormat,
    content,
    signed === null ? {} : signatureProperties(signed),
  );
  images.push(id);
  return id;
}

/** Says of an image that it is signed once Glance looks no more. */
async function forge(content: Buffer, signed: Signed, diskFormat = 'raw'): Promise<string> {
  const id = await upload(content, null, diskFormat);
  await nova.addProperties(id, signatureProperties(signed));
  return id;
}

/** An image that this one signed. */
async function signedBy(name: string, one: Certified): Promise<string> {
  return await forge(CONTENT, {
    signature: pssSignature(CONTENT, one),
    certificateId: await store(name, one),
  });
}

/** The service's images, as its options say. */
async function imagesWith(...options: readonly string[]): Promise<SignedImages> {
  const file = join(directory, 'glance.conf');
  await writeFile(file, ['[glance]', ...options, ''].join('\n'));
  return createClients(await loadConfig([NOVA_CONF, file]), logger).images;
}

const token = (): string => String(nova.http.defaults.headers.common['X-Auth-Token']);
const trusting = (...certificateIds: readonly string[]) => ({
  trust: { certificateIds, requester: { authToken: token() } },
});

describe('the signature of an image', () => {
  const fetched = (): string => join(directory, 'fetched');
  afterEach(() => rm(fetched(), { force: true }));

  it.each([
    ['DSA', ['-algorithm', 'DSA', '-pkeyopt', 'dsa_paramgen_bits:2048']],
    ['ECC_SECP384R1', ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:secp384r1']],
    ['ECC_SECT571K1', ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:sect571k1']],
  ])('holds when it is one by %s, and not for other bytes', async (keyType, algorithm) => {
    const parameters = join(directory, 'parameters.pem');
    if (keyType === 'DSA') await run('openssl', ['genpkey', '-genparam', ...algorithm, '-out', parameters]);
    const how = keyType === 'DSA' ? ['-paramfile', parameters] : algorithm;
    const certified = await maker.make(keyType, { issuer: root, algorithm: how });
    const certificateId = await store(keyType, certified);
    const signature = sign('sha256', CONTENT, certified.key);
    const source = await imagesWith('verify_glance_signatures = true');
    const signed = { signature, certificateId, keyType };
    await source.download(await upload(CONTENT, signed), fetched(), trusting());
    expect(await readFile(fetched())).toEqual(CONTENT);
    await rm(fetched());
    const other = await forge(Buffer.from('other bytes'), signed);
    await expect(source.download(other, fetched(), trusting())).rejects.toThrow(SignatureVerificationError);
    expect((await readdir(directory)).filter((name) => name.startsWith('fetched'))).toEqual([]);
  });

  it('is asked for by the operator, of every image', async () => {
    const source = await imagesWith('verify_glance_signatures = true');
    const good = await upload(CONTENT, { signature: pssSignature(CONTENT, signer) });
    await source.download(good, fetched(), trusting());
    const unsigned = await upload(CONTENT, null);
    await expect(source.download(unsigned, fetched(), trusting())).rejects.toThrow(/Missing property/);
    const shortSalt = await forge(CONTENT, { signature: pssSignature(CONTENT, signer, 20) });
    await expect(source.download(shortSalt, fetched(), trusting())).rejects.toThrow(
      SignatureVerificationError,
    );
    // The service by itself may not read its users' certificates.
    await expect(source.download(good, fetched())).rejects.toThrow(/Unable to retrieve certificate/);
    await (await imagesWith()).download(unsigned, fetched());
  });

  it('is worth something only with a certificate that goes back to a trusted one', async () => {
    const good = await upload(CONTENT, { signature: pssSignature(CONTENT, signer) });
    const stranger = await store('stranger', await maker.make('stranger', { ...authority(0) }));
    const noAuthority = await maker.make('no-authority', { extensions: ['keyUsage = digitalSignature'] });
    const signedByIt = await store('by-it', await maker.make('by-it', { issuer: noAuthority }));
    const byIt = await forge(CONTENT, {
      signature: pssSignature(CONTENT, signer),
      certificateId: signedByIt,
    });
    const middle = await maker.make('middle', { issuer: root, ...authority(0) });
    const deep = await maker.make('deep', { issuer: middle });
    const tooDeep = await signedBy('deep', deep);
    const old = await maker.make('old', { issuer: root, days: -1 });
    const outdated = await signedBy('old', old);
    const middleId = await store('middle', middle);

    const source = await imagesWith();
    await source.download(good, fetched(), trusting(stranger, rootId));
    for (const [image, ...trusted] of [
      [good, stranger],
      [good, signerId],
      [good, 'ee3da0e3-c3d5-4bb0-8f0a-a3a6a3b8a9b5'],
      [byIt, await store('no-authority', noAuthority)],
      [tooDeep, middleId],
      [tooDeep, middleId, rootId],
      [outdated, rootId],
    ] as const) {
      await expect(source.download(image, fetched(), trusting(...trusted))).rejects.toThrow(
        CertificateValidationFailed,
      );
    }
    const byDefault = [
      'verify_glance_signatures = true',
      'enable_certificate_validation = true',
      `default_trusted_certificate_ids = ${rootId}`,
    ];
    await (await imagesWith(...byDefault)).download(good, fetched(), trusting());
    await expect(
      (await imagesWith(...byDefault.slice(0, 2))).download(good, fetched(), trusting()),
    ).rejects.toThrow(/no trusted certificate IDs were provided/);
  });
});

describe('a server of a signed image', () => {
  let compute: ComputeProcess;
  let tiny: Buffer;
  let flavor: string;
  beforeAll(async () => {
    tiny = await readFile(join(CLOUD, 'images', 'tiny.qcow2'));
    flavor = await nova.flavorId('m1.micro');
    compute = await ComputeProcess.start();
    await run(ALL_IN_ONE, ['discover-hosts']);
  });
  afterAll(() => compute.stop());

  async function create(image: string, ...trustedCertificates: readonly string[]): Promise<string> {
    return await nova.create({ name: 'signed', image, flavor, networks: 'none', trustedCertificates });
  }

  // matrix: operation.trusted-certs
  it('starts when the certificate is trusted, and is in error when it is not or the image is another', async () => {
    const signed = { signature: pssSignature(tiny, signer) };
    const good = await upload(tiny, signed, 'qcow2');
    const same = await upload(tiny, signed, 'qcow2');
    const changed = await forge(Buffer.concat([tiny, Buffer.alloc(512)]), signed, 'qcow2');
    const trusted = await create(good, rootId);
    const untrusted = await create(same, signerId);
    const forged = await create(changed, rootId);
    try {
      await nova.waitForStatus(trusted, 'ACTIVE');
      const { fault } = await nova.waitForStatus(untrusted, 'ERROR');
      expect(fault?.message).toContain('Image signature certificate validation failed');
      const { fault: other } = await nova.waitForStatus(forged, 'ERROR');
      expect(other?.message).toContain('Signature verification for the image');
      // What is in its place is verified, too.
      await nova.action(trusted, { rebuild: { imageRef: same, trusted_image_certificates: [signerId] } });
      await nova.waitForStatus(trusted, 'ERROR');
    } finally {
      for (const id of [trusted, untrusted, forged]) await nova.delete(id);
      for (const id of [trusted, untrusted, forged]) await nova.waitForGone(id);
    }
  });

  it('is not rescued by a forged image, nor taken from the shelf by an unsigned one', async () => {
    const signed = { signature: pssSignature(tiny, signer) };
    const good = await upload(tiny, signed, 'qcow2');
    const forged = await forge(Buffer.concat([tiny, Buffer.alloc(1024)]), signed, 'qcow2');
    const id = await create(good, rootId);
    try {
      await nova.waitForStatus(id, 'ACTIVE');
      await nova.action(id, { rescue: { rescue_image_ref: forged } });
      const { fault } = await nova.waitForStatus(id, 'ERROR');
      expect(fault?.message).toContain('Signature verification for the image');
      await nova.action(id, { reboot: { type: 'HARD' } });
      await nova.waitForStatus(id, 'ACTIVE', 60_000, { despiteError: true });

      // Nova leaves signatures out of images that it makes of servers.
      await nova.action(id, { shelve: null });
      await nova.waitForOffloaded(id);
      await nova.action(id, { unshelve: null });
      const actions = z.object({
        instanceActions: z.array(z.object({ action: z.string(), message: z.string().nullable() })),
      });
      await waitFor(
        async () => {
          const found = actions.parse(await nova.get('compute', `/servers/${id}/os-instance-actions`));
          const unshelve = found.instanceActions.find(({ action }) => action === 'unshelve');
          return unshelve?.message === 'Error' ? true : null;
        },
        60_000,
        () => 'the server was taken from the shelf',
      );
      await nova.waitForOffloaded(id);
    } finally {
      const shelved = await nova.activeImage('signed-shelved');
      if (shelved !== null) await nova.deleteImage(shelved);
      await nova.delete(id);
      await nova.waitForGone(id);
    }
  });

  it('starts from a µVM of the image once a server has had it verified', async () => {
    const good = await upload(tiny, { signature: pssSignature(tiny, signer) }, 'qcow2');
    await nova.removeProperty(good, 'prebake');
    const mini = await nova.flavorId('m1.mini');
    const boot = async (): Promise<string> =>
      await nova.create({
        name: 'signed',
        image: good,
        flavor: mini,
        networks: 'none',
        trustedCertificates: [rootId],
      });
    const first = await boot();
    let second: string | undefined;
    try {
      await nova.waitForStatus(first, 'ACTIVE');
      await bakeImage(good);
      second = await boot();
      await nova.waitForStatus(second, 'ACTIVE');
      expect(await compute.waitForReady(second)).toMatchObject({ how: 'uvm' });
    } finally {
      for (const id of [first, second]) {
        if (id === undefined) continue;
        await nova.delete(id);
        await nova.waitForGone(id);
      }
    }
  });
});
