/** Images come over complete and right, or not at all. */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { ImageNotFound, ImageUnacceptable, SignatureVerificationError } from '../../lib/exceptions';
import { DownloadTruncated, Glance, KeystoneSession } from '../../lib/openstack';
import { LocalCloud, type Answer } from '../support/local-cloud';
import { recordedStartup } from '../support/recorded';

const bytes = Buffer.alloc(300_000, 'an image ');
const sha512 = createHash('sha512').update(bytes).digest('hex');
const id = '1cbe218b-b224-4ca8-aeec-9273155f1f98';
const image = { ...recordedStartup.image, size: bytes.length, os_hash_algo: 'sha512', os_hash_value: sha512 };

let cloud: LocalCloud;
let session: KeystoneSession;
let glance: Glance;
let directory: string;
let record: Readonly<Record<string, unknown>>;
let file: () => Answer;

beforeEach(async () => {
  record = image;
  file = () => (response) => send(response, bytes);
  directory = await mkdtemp(join(tmpdir(), 'prebake-glance-'));
  cloud = await LocalCloud.start(({ path }) => {
    if (path === `/v2/images/${id}`) return { status: 200, body: record };
    return path === `/v2/images/${id}/file` ? file() : undefined;
  });
  session = new KeystoneSession(
    { authUrl: cloud.url, username: 'nova', password: 'secret', projectName: 'x' },
    logger,
  );
  glance = new Glance(session);
});

afterEach(async () => {
  session.close();
  await cloud.stop();
  await rm(directory, { recursive: true });
});

const logger = pino({ level: 'silent' });

function send(response: ServerResponse, content: Buffer): void {
  response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': content.length });
  response.end(content);
}

/** Sends half of the image, then breaks the connection. */
function breakOff(response: ServerResponse): void {
  response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': bytes.length });
  response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
}

test("describes an image in the driver's words", async () => {
  record = recordedStartup.image;
  await expect(glance.show(id)).resolves.toEqual({
    id,
    name: 'tiny',
    status: 'active',
    diskFormat: 'qcow2',
    containerFormat: 'bare',
    sizeBytes: 393216,
    virtualSizeBytes: 67108864,
    minDiskGb: 0,
    minRamMb: 0,
    checksum: '74827bea168038fe0edb0494129b3ad0',
    hash: { algorithm: 'sha512', value: recordedStartup.image['os_hash_value'] },
    properties: {
      'owner_specified.openstack.md5': '',
      'owner_specified.openstack.sha256': '',
      'owner_specified.openstack.object': 'images/tiny',
    },
    tags: [],
  });
});

test('writes the bytes and tells how far it is', async () => {
  const progress: number[] = [];
  const path = join(directory, 'base');
  await glance.download(id, path, { onProgress: ({ receivedBytes }) => progress.push(receivedBytes) });
  expect(await readFile(path)).toEqual(bytes);
  expect(await readdir(directory)).toEqual(['base']);
  expect(progress.at(-1)).toBe(bytes.length);
});

test('starts over when the connection breaks', async () => {
  let breaks = 2;
  file = () => {
    breaks -= 1;
    return breaks >= 0 ? breakOff : (response) => send(response, bytes);
  };
  await glance.download(id, join(directory, 'base'));
  expect(await readFile(join(directory, 'base'))).toEqual(bytes);
});

test('gives up on a connection that always breaks, and leaves nothing', async () => {
  file = () => breakOff;
  await expect(glance.download(id, join(directory, 'base'))).rejects.toBeInstanceOf(DownloadTruncated);
  expect(await readdir(directory)).toEqual([]);
});

test.each([
  ['SHA-512', { os_hash_value: 'f'.repeat(128) }],
  ['MD5, where that is all there is', { os_hash_algo: null, os_hash_value: null, checksum: 'f'.repeat(32) }],
  ['a size that is too small', { size: bytes.length - 1 }],
])('refuses bytes that do not have the promised %s', async (_what, promised) => {
  record = { ...image, ...promised };
  await expect(glance.download(id, join(directory, 'base'))).rejects.toBeInstanceOf(
    SignatureVerificationError,
  );
  expect(await readdir(directory)).toEqual([]);
  expect(cloud.calls.filter((call) => call.endsWith('/file'))).toHaveLength(1);
});

test('stops when nobody wants the image any more', async () => {
  const abort = new AbortController();
  file = () => (response) => {
    response.writeHead(200, { 'Content-Type': 'application/octet-stream' });
    response.write(bytes.subarray(0, 1000));
  };
  const reason = new Error('deleted');
  const onProgress = () => abort.abort(reason);
  const download = glance.download(id, join(directory, 'base'), { signal: abort.signal, onProgress });
  await expect(download).rejects.toBe(reason);
  expect(await readdir(directory)).toEqual([]);
});

test('tells an image that is not there from one that is not ready', async () => {
  await expect(glance.download('another', join(directory, 'base'))).rejects.toBeInstanceOf(ImageNotFound);
  record = { ...image, status: 'queued' };
  await expect(glance.download(id, join(directory, 'base'))).rejects.toBeInstanceOf(ImageUnacceptable);
});
