/**
 * The signature that an image's owner left in its `img_signature*` properties (what Nova has from cursive:
 * signature_utils.get_verifier): which kinds there are, and how the image's bytes are held against it.
 */
import { constants, createVerify, type KeyObject, type X509Certificate } from 'node:crypto';
import type { BytesCheck } from '../openstack';
import { failure } from './certificates';

/** The properties of a signed image. */
export interface ImageSignature {
  readonly signature: Buffer;
  /** Name of the digest to node:crypto. */
  readonly digest: string;
  readonly keyType: string;
  readonly certificateId: string;
}

const DIGESTS: Readonly<Record<string, { readonly name: string; readonly bytes: number }>> = {
  'SHA-224': { name: 'sha224', bytes: 28 },
  'SHA-256': { name: 'sha256', bytes: 32 },
  'SHA-384': { name: 'sha384', bytes: 48 },
  'SHA-512': { name: 'sha512', bytes: 64 },
};
/** By key type, the kind of key that its certificate has to hold. */
const KEY_TYPES: Readonly<Record<string, string>> = {
  'RSA-PSS': 'rsa',
  DSA: 'dsa',
  ECC_SECT571K1: 'ec',
  ECC_SECT409K1: 'ec',
  ECC_SECT571R1: 'ec',
  ECC_SECT409R1: 'ec',
  ECC_SECP521R1: 'ec',
  ECC_SECP384R1: 'ec',
};
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** @throws SignatureVerificationError when a property is missing or means nothing */
export function signatureOf(properties: Readonly<Record<string, string>>): ImageSignature {
  const value = (name: string): string => {
    const found = properties[name];
    if (found !== undefined) return found;
    throw failure(
      'Required image properties for signature verification do not exist. Cannot verify signature. ' +
        `Missing property: ${name}`,
    );
  };
  const certificateId = value('img_signature_certificate_uuid');
  const digest = value('img_signature_hash_method');
  const encoded = value('img_signature').replace(/\s/g, '');
  const keyType = value('img_signature_key_type');
  if (encoded === '' || !BASE64.test(encoded)) {
    throw failure('The signature data was not properly encoded using base64');
  }
  if (DIGESTS[digest] === undefined) throw failure(`Invalid signature hash method: ${digest}`);
  if (KEY_TYPES[keyType] === undefined) throw failure(`Invalid signature key type: ${keyType}`);
  return { signature: Buffer.from(encoded, 'base64'), digest, keyType, certificateId };
}

/**
 * One check for each time the bytes are read.
 * @throws SignatureVerificationError when the certificate's key is of another kind
 */
export function checksOf(signed: ImageSignature, certificate: X509Certificate): () => BytesCheck {
  const key = certificate.publicKey;
  const digest = DIGESTS[signed.digest];
  if (digest === undefined || key.asymmetricKeyType !== KEY_TYPES[signed.keyType]) {
    throw failure(`Invalid public key type for signature key type: ${signed.keyType}`);
  }
  const options =
    signed.keyType === 'RSA-PSS'
      ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: longestSalt(key, digest.bytes) }
      : { key };
  return () => {
    const verify = createVerify(digest.name);
    return {
      update: (chunk) => void verify.update(chunk),
      holds: () => verify.verify(options, signed.signature),
    };
  };
}

/** Signers use the longest salt there can be (RFC 8017, 9.1.1). */
function longestSalt(key: KeyObject, digestBytes: number): number {
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  return Math.ceil((bits - 1) / 8) - digestBytes - 2;
}
