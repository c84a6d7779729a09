/**
 * A password that only the owner of a server's key pair can read, where Nova keeps it: `openstack server show` and the
 * metadata service hand it out (nova/crypto.py, ssh_encrypt_text; nova/api/metadata/password.py).
 */
import { constants, createPublicKey, publicEncrypt } from 'node:crypto';

/** Nova keeps it in four values of 255 characters. */
const CHUNKS = 4;
const CHUNK_LENGTH = 255;

/**
 * Entries for system_metadata, `password_0` to `password_3`.
 * @param keyData the server's public key as OpenSSH writes it; null is returned for any other than RSA
 */
export function sealedPassword(keyData: string | null, password: string): Record<string, string> | null {
  const [type, encoded] = (keyData ?? '').trim().split(/\s+/);
  if (type !== 'ssh-rsa' || encoded === undefined) return null;
  const [, exponent, modulus] = fields(Buffer.from(encoded, 'base64'));
  if (exponent === undefined || modulus === undefined) return null;
  const key = createPublicKey({
    key: { kty: 'RSA', n: modulus.toString('base64url'), e: exponent.toString('base64url') },
    format: 'jwk',
  });
  const sealed = publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, Buffer.from(password));
  const text = sealed.toString('base64');
  const chunk = (index: number): string => text.slice(index * CHUNK_LENGTH, (index + 1) * CHUNK_LENGTH);
  return Object.fromEntries(
    Array.from({ length: CHUNKS }, (_, index) => [`password_${index}`, chunk(index)]),
  );
}

/** The strings of an SSH key, each after its length; integers without the zero that keeps them positive. */
function fields(data: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let offset = 0; offset + 4 <= data.length;) {
    const end = offset + 4 + data.readUInt32BE(offset);
    const value = data.subarray(offset + 4, end);
    found.push(value[0] === 0 ? value.subarray(1) : value);
    offset = end;
  }
  return found;
}
