/**
 * Images that cannot become µVMs, as real guests: each is told by what its disk holds or its first boot does, its servers
 * say why, and boot cold. The guests are boot sectors.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from './support/until';
import { UvmHost } from './support/uvm-host';

const run = promisify(execFile);
const DISK_BYTES = 1024 ** 2;
const flavor = { name: 'm1', vcpus: 1, memoryMb: 128, rootGb: 1, ephemeralGb: 0, swapMb: 0, extraSpecs: {} };

// 16-bit x86, at 0x7c00.
/** mov dx, 0x3f8; mov al, '!'; out dx, al: a word on the serial console. */
const SAY = [0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee];
/** cli; hlt; jmp to the hlt: runs for ever and wants no processor. */
const REST = [0xfa, 0xf4, 0xeb, 0xfd];
/** mov al, 0xfe; out 0x64, al: resets the machine by its keyboard controller. */
const RESET = [0xb0, 0xfe, 0xe6, 0x64];
/** mov dx, 0x604; mov ax, 0x2000; out dx, ax: switches it off by ACPI, at the port where SeaBIOS puts it on this machine. */
const OFF = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef];

let directory: string;
let host: UvmHost | undefined;

jest.setTimeout(120_000);

beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'prebake-unsuitable-'))));
afterEach(async () => {
  await host?.destroyServers();
  await host?.stop();
  host = undefined;
  await rm(directory, { recursive: true, force: true });
});

/** A disk that runs this program. */
function disk(program: readonly number[], change: (disk: Buffer) => void = () => undefined): Buffer {
  const content = Buffer.alloc(DISK_BYTES);
  Buffer.from(program).copy(content);
  content.writeUInt16LE(0xaa55, 510);
  change(content);
  return content;
}

test.each([
  [
    'restarts during its first boot',
    disk([...SAY, ...RESET, ...REST]),
    /switched itself off, or restarted, during its first boot/,
  ],
  [
    'switches itself off during its first boot',
    disk([...SAY, ...OFF, ...REST]),
    /switched itself off, or restarted, during its first boot/,
  ],
  [
    'is Windows',
    disk([...SAY, ...REST], (content) => {
      content.writeUInt8(0x07, 446 + 4);
      content.writeUInt32LE(1024, 446 + 8);
      content.write('NTFS    ', 1024 * 512 + 3);
    }),
    /its disk has a partition with NTFS/,
  ],
])('an image that %s is not baked, and its servers boot cold', async (_what, content, reason) => {
  const raw = join(directory, 'disk.raw');
  const imageFile = join(directory, 'disk.qcow2');
  await writeFile(raw, content);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, imageFile]);
  host = await UvmHost.start({ imageFile, baseMemoryMb: 128, bakeTimeoutS: 60, gateTimeoutMs: 30_000 });

  await expect(host.baker.bake(host.image)).rejects.toThrow(reason);
  expect(await host.squirrel.list()).toEqual([]);
  const none: unknown = expect.stringMatching(reason);
  expect(await host.templates.find(host.image, flavor)).toEqual({ none });

  const instance = host.server(flavor);
  const { driver } = host;
  const outcome = await driver.spawn(await host.request(instance));
  expect(outcome).toMatchObject({ how: 'cold', why: none });
  await until('its word', async () => (await driver.getConsoleOutput(instance.uuid, null)).includes('!'));
});
