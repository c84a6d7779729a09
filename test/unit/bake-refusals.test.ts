/** Images that cannot be baked: told by their disk, or by how their first boot came to rest. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastWords } from '../../drivers/libvirt/uvm/boot-watch';
import { signOfWindows } from '../../drivers/libvirt/uvm/windows';

const SECTOR = 512;
const NEVER = new AbortController().signal;
let directory: string;

beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'refusals-'))));
afterEach(() => rm(directory, { recursive: true, force: true }));

function disk(change: (disk: Buffer) => void): Buffer {
  const content = Buffer.alloc(4096 * SECTOR);
  content.writeUInt16LE(0xaa55, SECTOR - 2);
  change(content);
  return content;
}

function mbrPartition(content: Buffer, type: number, start: number): void {
  content.writeUInt8(type, 446 + 4);
  content.writeUInt32LE(start, 446 + 8);
}

const ntfsAt = (content: Buffer, sector: number): void => void content.write('NTFS    ', sector * SECTOR + 3);

function gptPartition(content: Buffer, guid: string, start: number): void {
  content.write('EFI PART', SECTOR);
  content.writeBigUInt64LE(2n, SECTOR + 72);
  content.writeUInt32LE(128, SECTOR + 80);
  content.writeUInt32LE(128, SECTOR + 84);
  content.write(guid, 2 * SECTOR, 'hex');
  content.writeBigUInt64LE(BigInt(start), 2 * SECTOR + 32);
}

const DISKS: [string, Buffer, string | undefined][] = [
  ['an empty one', disk(() => undefined), undefined],
  ['Linux on an MBR', disk((content) => mbrPartition(content, 0x83, 2048)), undefined],
  ['a partition of type 7 that is not NTFS', disk((content) => mbrPartition(content, 0x07, 2048)), undefined],
  [
    'NTFS on an MBR',
    disk((content) => {
      mbrPartition(content, 0x07, 2048);
      ntfsAt(content, 2048);
    }),
    'its disk has a partition with NTFS',
  ],
  ['NTFS without partitions', disk((content) => ntfsAt(content, 0)), 'its disk holds NTFS'],
  [
    "Windows' reserved partition",
    disk((content) => gptPartition(content, '16e3c9e35c0bb84d817df92df00215ae', 34)),
    'its disk has a partition that Windows reserves for itself',
  ],
  [
    'NTFS on a GPT',
    disk((content) => {
      gptPartition(content, 'a2a0d0ebe5b9334487c068b6b72699c7', 2048);
      ntfsAt(content, 2048);
    }),
    'its disk has a partition with NTFS',
  ],
  [
    'a partition that lies outside of the disk',
    disk((content) => mbrPartition(content, 0x07, 0xffffff00)),
    undefined,
  ],
];

test.each(DISKS)('%s', async (_name, content, why) => {
  const path = join(directory, 'base');
  await writeFile(path, content);
  const base = { path, format: 'raw' as const, virtualSizeBytes: content.length };
  expect(await signOfWindows(base, directory, NEVER)).toBe(why);
});

test.each([
  ['', 'without a word on its serial console'],
  ['Debian GNU/Linux 12 localhost ttyS0\r\n\r\nlocalhost login: ', 'it has none'],
  ['Cloud-init v. 22.4.2 running\r\nlocalhost login: ', "last on its console: 'localhost login:'"],
  ['\u001b[2J\u001b[01;31mNo bootable device.\u001b[0m\r\n', "last on its console: 'No bootable device.'"],
])('a boot that came to rest after %j says so', async (text, words) => {
  const path = join(directory, 'console.log');
  await writeFile(path, text);
  expect(await lastWords(path)).toContain(words);
});
