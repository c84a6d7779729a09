/**
 * Certificates of the key manager, and whether one of them goes back to certificates that are trusted (what Nova has from
 * cursive: certificate_utils.verify_certificate).
 */
import { X509Certificate } from 'node:crypto';
import { describeError, SignatureVerificationError } from '../exceptions';
import { isHttpError, type Barbican } from '../openstack';
import { signingExtensions } from './der';

/** A certificate and its ID in the key manager. */
export interface NamedCertificate {
  readonly id: string;
  readonly certificate: X509Certificate;
}

/** @throws SignatureVerificationError when there is none of this ID, when it may not be read or is no certificate */
export async function getCertificate(
  keyManager: Barbican,
  id: string,
  signal?: AbortSignal,
): Promise<X509Certificate> {
  let secret;
  try {
    secret = await keyManager.get(id, signal);
  } catch (error) {
    signal?.throwIfAborted();
    if (isHttpError(error, 404)) throw failure(`Certificate not found with ID: ${id}`);
    throw failure(`Unable to retrieve certificate with ID: ${id}`, error);
  }
  if (secret.type !== 'certificate') throw failure(`Invalid certificate format: ${secret.type}`);
  try {
    return new X509Certificate(secret.payload);
  } catch (error) {
    throw failure(`Certificate ${id} cannot be read`, error);
  }
}

/**
 * Builds the chain from `certificate` to a root among `trusted`. A trusted certificate that is not valid now, or is not
 * marked as one that signs certificates, is as good as none.
 * @throws SignatureVerificationError
 */
export function verifyCertificate(
  certificate: X509Certificate,
  trusted: readonly NamedCertificate[],
  nowMs = Date.now(),
): void {
  if (!isValidAt(certificate, nowMs)) throw failure('The certificate is outside its valid date range.');
  const signers = trusted.filter((one) => isValidAt(one.certificate, nowMs) && signsCertificates(one));
  const chain: NamedCertificate[] = [{ id: 'the base certificate', certificate }];
  for (let signed = certificate; ;) {
    const signer = signers.find((one) => isIssuer(one.certificate, signed));
    if (signer === undefined || chain.length > signers.length + 1) {
      throw failure(
        'Certificate chain building failed. Could not locate the signing certificate for ' +
          `${chain.at(-1)?.id ?? ''} in the set of trusted certificates.`,
      );
    }
    if (signer.certificate.raw.equals(signed.raw)) break;
    chain.push(signer);
    signed = signer.certificate;
  }
  chain.forEach((one, below) => {
    // The certificate itself does not count, nor does the one that the limit belongs to.
    const limit = signingExtensions(one.certificate.raw).basicConstraints?.pathLength ?? null;
    if (below > 0 && limit !== null && limit < below - 1) {
      throw failure(
        `Certificate validation failed. The signing certificate '${one.id}' is not configured to support certificate ` +
          'chains of sufficient length.',
      );
    }
  });
}

function isValidAt({ validFrom, validTo }: X509Certificate, nowMs: number): boolean {
  return Date.parse(validFrom) <= nowMs && nowMs <= Date.parse(validTo);
}

function signsCertificates({ certificate }: NamedCertificate): boolean {
  const { basicConstraints, keyUsage } = signingExtensions(certificate.raw);
  return basicConstraints?.ca === true && keyUsage?.keyCertSign === true;
}

/** By name and by signature. */
function isIssuer(issuer: X509Certificate, issued: X509Certificate): boolean {
  return issuer.subject === issued.issuer && issued.verify(issuer.publicKey);
}

/** In Nova's words. */
export function failure(reason: string, cause?: unknown): SignatureVerificationError {
  const why = cause === undefined ? reason : `${reason} (${describeError(cause)})`;
  return new SignatureVerificationError(`Signature verification for the image failed: ${why}.`);
}
