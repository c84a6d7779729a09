/** Certificates and keys of a test's own, made with openssl. */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './servers';

/** A certificate, and the key that it is of. */
export interface Certified {
  readonly pem: string;
  readonly key: KeyObject;
  /** Files, for openssl. */
  readonly paths: { readonly pem: string; readonly key: string };
}

/** Makes keys and certificates in one directory. */
export class CertificateMaker {
  constructor(private readonly directory: string) {}

  /**
   * @param algorithm arguments of `openssl genpkey`
   * @param extensions a line each, as in openssl's configuration; none by default
   * @param days negative for one that is outdated
   */
  async make(
    name: string,
    options: {
      readonly issuer?: Certified;
      readonly algorithm?: readonly string[];
      readonly extensions?: readonly string[];
      readonly days?: number;
    } = {},
  ): Promise<Certified> {
    const file = (suffix: string): string => join(this.directory, `${name}.${suffix}`);
    const paths = { pem: file('pem'), key: file('key') };
    const { issuer, algorithm = ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'] } = options;
    await run('openssl', ['genpkey', ...algorithm, '-out', paths.key]);
    await writeFile(file('ext'), ['[extensions]', ...(options.extensions ?? []), ''].join('\n'));
    await run('openssl', ['req', '-new', '-key', paths.key, '-subj', `/CN=${name}`, '-out', file('csr')]);
    const signing =
      issuer === undefined ? ['-signkey', paths.key] : ['-CA', issuer.paths.pem, '-CAkey', issuer.paths.key];
    const made = ['-extfile', file('ext'), '-extensions', 'extensions', '-days', String(options.days ?? 1)];
    const args = ['-req', '-in', file('csr'), '-set_serial', String(Date.now()), ...signing, ...made];
    await run('openssl', ['x509', ...args, '-out', paths.pem]);
    const [pem, key] = await Promise.all([readFile(paths.pem, 'utf8'), readFile(paths.key)]);
    return { pem, key: createPrivateKey(key), paths };
  }
}

/** What makes a certificate one that signs others; its key is quickly made. */
export const authority = (pathLength: number) => ({
  algorithm: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:prime256v1'],
  extensions: [
    `basicConstraints = critical, CA:TRUE, pathlen:${pathLength}`,
    'keyUsage = critical, keyCertSign',
  ],
});
