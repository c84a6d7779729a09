/**
 * Images from Glance whose signatures are verified while they arrive, when the operator or a server asks for that
 * (nova/image/glance.py, _get_verifier).
 */
import type { ImageTrust } from '../../drivers/driver';
import { CertificateValidationFailed, describeError, SignatureVerificationError } from '../exceptions';
import type { Logger } from '../log';
import type { Barbican, BytesCheck, DownloadOptions, Glance, GlanceImage } from '../openstack';
import { getCertificate, verifyCertificate, type NamedCertificate } from './certificates';
import { checksOf, signatureOf } from './signature';

/** The operator's options, by Nova's names in `[glance]`. */
export interface SignatureOptions {
  readonly verifyGlanceSignatures: boolean;
  readonly enableCertificateValidation: boolean;
  readonly defaultTrustedCertificateIds: readonly string[];
}

/** What signatures are verified with. */
export interface SignedImagesParts {
  readonly glance: Pick<Glance, 'download'>;
  /** As the service itself. @throws ConfigError when this host's key manager is not one that is asked here */
  readonly keyManager: () => Barbican;
  readonly options: SignatureOptions;
  readonly logger: Logger;
}

/** Where the driver gets images from. */
export class SignedImages {
  constructor(private readonly parts: SignedImagesParts) {}

  /**
   * As `Glance.download`.
   * @param options.trust what a server asks for; without one the service fetches the image by itself
   * @throws CertificateValidationFailed, SignatureVerificationError; what `Glance.download` throws
   */
  async download(
    imageId: string,
    toPath: string,
    options: DownloadOptions & { readonly trust?: ImageTrust } = {},
  ): Promise<void> {
    const { trust, ...rest } = options;
    const certificateIds = this.certificateIds(trust);
    if (certificateIds.length === 0 && !this.parts.options.verifyGlanceSignatures) {
      await this.parts.glance.download(imageId, toPath, rest);
      return;
    }
    const keyManager = this.parts.keyManager().asUser(trust?.requester.authToken ?? null);
    const signature = async (image: GlanceImage): Promise<() => BytesCheck> =>
      await this.checks(image, keyManager, certificateIds, options.signal);
    await this.parts.glance.download(imageId, toPath, { ...rest, signature });
    this.parts.logger.info({ image: imageId }, 'the signature of the image is verified');
  }

  /** A server's own list comes before the operator's. */
  private certificateIds(trust: ImageTrust | undefined): readonly string[] {
    const { enableCertificateValidation, defaultTrustedCertificateIds } = this.parts.options;
    if (trust !== undefined && trust.certificateIds.length > 0) return trust.certificateIds;
    return enableCertificateValidation ? defaultTrustedCertificateIds : [];
  }

  private async checks(
    image: GlanceImage,
    keyManager: Barbican,
    trustedIds: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<() => BytesCheck> {
    const signed = signatureOf(image.properties);
    const certificate = await getCertificate(keyManager, signed.certificateId, signal);
    const checks = checksOf(signed, certificate);
    if (trustedIds.length > 0) {
      const trusted: NamedCertificate[] = [];
      for (const id of trustedIds) {
        try {
          trusted.push({ id, certificate: await getCertificate(keyManager, id, signal) });
        } catch (error) {
          if (!(error instanceof SignatureVerificationError)) throw error;
          this.parts.logger.warn({ image: image.id }, `a trusted certificate is left out: ${error.message}`);
        }
      }
      try {
        verifyCertificate(certificate, trusted);
      } catch (error) {
        throw new CertificateValidationFailed(
          `Image signature certificate validation failed for certificate: ${signed.certificateId}. ${describeError(error)}`,
          { cause: error },
        );
      }
    } else if (this.parts.options.enableCertificateValidation) {
      throw new CertificateValidationFailed(
        'Image signature certificate validation enabled, but no trusted certificate IDs were provided. Unable to ' +
          'validate the certificate used to verify the image signature.',
      );
    }
    return checks;
  }
}
