/**
 * Two extensions of an X.509 certificate that node:crypto does not tell of, out of its DER (RFC 5280, 4.1 and 4.2.1). Only
 * for certificates that node:crypto has parsed: what is not where the standard has it counts as absent.
 */

/** What a certificate says about its use as one that signs others. */
export interface SigningExtensions {
  /** null without a basic constraints extension; `pathLength` is null when there is no limit. */
  readonly basicConstraints: { readonly ca: boolean; readonly pathLength: number | null } | null;
  /** null without a key usage extension. */
  readonly keyUsage: { readonly keyCertSign: boolean } | null;
}

interface Element {
  readonly tag: number;
  readonly content: Buffer;
}

const [BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER] = [0x01, 0x02, 0x03, 0x04, 0x06];
/** `[3] EXPLICIT Extensions` of a TBSCertificate. */
const EXTENSIONS = 0xa3;
const KEY_USAGE = '551d0f';
const BASIC_CONSTRAINTS = '551d13';
/** Bit 5 of KeyUsage, counted from the most significant one. */
const KEY_CERT_SIGN = 0x04;

/** @param certificate DER */
export function signingExtensions(certificate: Buffer): SigningExtensions {
  const [tbs] = elements(elements(certificate)[0]?.content);
  const wrapped = elements(tbs?.content).find(({ tag }) => tag === EXTENSIONS);
  const found = new Map<string, Buffer>();
  for (const extension of elements(elements(wrapped?.content)[0]?.content)) {
    const parts = elements(extension.content);
    const id = parts.find(({ tag }) => tag === OBJECT_IDENTIFIER)?.content.toString('hex');
    const value = parts.find(({ tag }) => tag === OCTET_STRING)?.content;
    if (id !== undefined && value !== undefined) found.set(id, value);
  }
  const [constraints, usage] = [found.get(BASIC_CONSTRAINTS), found.get(KEY_USAGE)];
  return {
    basicConstraints: constraints === undefined ? null : readBasicConstraints(constraints),
    keyUsage: usage === undefined ? null : { keyCertSign: hasKeyCertSign(usage) },
  };
}

function readBasicConstraints(value: Buffer): { ca: boolean; pathLength: number | null } {
  const parts = elements(elements(value)[0]?.content);
  const ca = parts.find(({ tag }) => tag === BOOLEAN)?.content[0];
  const length = parts.find(({ tag }) => tag === INTEGER)?.content;
  return {
    ca: ca !== undefined && ca !== 0,
    pathLength: length === undefined ? null : Number(`0x${length.toString('hex')}`),
  };
}

/** The first byte of a BIT STRING counts its unused bits. */
function hasKeyCertSign(value: Buffer): boolean {
  const bits = elements(value).find(({ tag }) => tag === BIT_STRING)?.content[1] ?? 0;
  return (bits & KEY_CERT_SIGN) !== 0;
}

/** The elements that `bytes` is made of, up to the first that is not whole. */
function elements(bytes: Buffer = Buffer.alloc(0)): Element[] {
  const found: Element[] = [];
  for (let at = 0; at + 2 <= bytes.length;) {
    const tag = bytes.readUInt8(at);
    const short = bytes.readUInt8(at + 1);
    const lengthBytes = short < 0x80 ? 0 : short - 0x80;
    const start = at + 2 + lengthBytes;
    if (lengthBytes > 4 || start > bytes.length) break;
    const length = lengthBytes === 0 ? short : bytes.readUIntBE(at + 2, lengthBytes);
    if (start + length > bytes.length) break;
    found.push({ tag, content: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}
