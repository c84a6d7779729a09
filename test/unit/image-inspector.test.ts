/** What the inspector lets through to QEMU, and what it does not: headers made by hand. */
import { inspectHeader, inspectOverlayHeader } from '../../drivers/libvirt/image-inspector';
import { ImageUnacceptable } from '../../lib/exceptions';

const CLUSTER_BYTES = 65536;
const FILE_BYTES = 4 * CLUSTER_BYTES;
const GIB = 1024 ** 3;

/** A sound version 3 header of a 1 GiB image, to be spoilt. */
function qcow2(spoil: (header: Buffer) => void = () => undefined): Buffer {
  const header = Buffer.alloc(CLUSTER_BYTES);
  header.write('QFI\xfb', 'latin1');
  header.writeUInt32BE(3, 4);
  header.writeUInt32BE(16, 20);
  header.writeBigUInt64BE(BigInt(GIB), 24);
  header.writeUInt32BE(2, 36);
  header.writeBigUInt64BE(BigInt(3 * CLUSTER_BYTES), 40);
  header.writeUInt32BE(104, 100);
  spoil(header);
  return header;
}

function inspect(header: Buffer): unknown {
  return inspectHeader(header, FILE_BYTES, 'img');
}

test('sound images are told apart', () => {
  expect(inspect(qcow2())).toEqual({ format: 'qcow2', virtualSizeBytes: GIB });
  const version2 = qcow2((header) => header.writeUInt32BE(2, 4));
  expect(inspect(version2)).toEqual({ format: 'qcow2', virtualSizeBytes: GIB });
  const features = qcow2((header) => header.writeBigUInt64BE(1n | 8n | 16n, 72));
  expect(inspect(features)).toMatchObject({ format: 'qcow2' });
  expect(inspect(Buffer.alloc(512))).toEqual({ format: 'raw', virtualSizeBytes: FILE_BYTES });
});

test('an extension that is only informative is passed over', () => {
  const header = qcow2((h) => {
    h.writeUInt32BE(0x6803f857, 104);
    h.writeUInt32BE(48, 108);
  });
  expect(inspect(header)).toMatchObject({ format: 'qcow2' });
});

test.each<[string, RegExp, (header: Buffer) => void]>([
  ['a backing file', /backing file/, (h) => h.writeBigUInt64BE(0x200n, 8)],
  ['a backing file name without offset', /backing file/, (h) => h.writeUInt32BE(11, 16)],
  ['an external data file', /external file/, (h) => h.writeBigUInt64BE(4n, 72)],
  ['unknown features', /unknown qcow2 features \(0x20\)/, (h) => h.writeBigUInt64BE(32n, 72)],
  ['corruption', /corrupt/, (h) => h.writeBigUInt64BE(2n, 72)],
  ['encryption', /encrypted/, (h) => h.writeUInt32BE(2, 32)],
  ['an unknown version', /version 9/, (h) => h.writeUInt32BE(9, 4)],
  ['absurd clusters', /cluster size/, (h) => h.writeUInt32BE(40, 20)],
  ['no size', /virtual size is zero/, (h) => h.writeBigUInt64BE(0n, 24)],
  ['an absurd size', /out of range/, (h) => h.writeBigUInt64BE(2n ** 63n, 24)],
  ['a table outside of the file', /L1 table/, (h) => h.writeBigUInt64BE(BigInt(FILE_BYTES), 40)],
  ['a wrong header length', /header length/, (h) => h.writeUInt32BE(7, 100)],
  ['the name of a data file', /external data file/, (h) => h.writeUInt32BE(0x44415441, 104)],
  [
    'the name of a data file behind another extension',
    /external data file/,
    (h) => {
      h.writeUInt32BE(0x6803f857, 104);
      h.writeUInt32BE(9, 108);
      h.writeUInt32BE(0x44415441, 104 + 8 + 16);
    },
  ],
])('a qcow2 image with %s is refused', (_, message, spoil) => {
  expect(() => inspect(qcow2(spoil))).toThrow(ImageUnacceptable);
  expect(() => inspect(qcow2(spoil))).toThrow(message);
});

test.each([
  ['vmdk', Buffer.from('KDMV')],
  ['vmdk', Buffer.from('# Disk DescriptorFile\n')],
  ['vhdx', Buffer.from('vhdxfile')],
  ['vhd', Buffer.from('conectix')],
  ['qed', Buffer.from('QED\0')],
  ['luks', Buffer.from('LUKS\xba\xbe', 'latin1')],
])('%s content is refused by name', (name, begin) => {
  const header = Buffer.concat([begin, Buffer.alloc(512)]);
  expect(() => inspect(header)).toThrow(`its content is of format ${name}, which is not supported`);
});

test('an empty file and a cut header are refused', () => {
  expect(() => inspectHeader(Buffer.alloc(0), 0, 'img')).toThrow(/empty/);
  expect(() => inspectHeader(qcow2().subarray(0, 40), 40, 'img')).toThrow(/cut short/);
});

describe('a disk over a backing file', () => {
  const overlay = (spoil: (header: Buffer) => void = () => undefined): Buffer =>
    qcow2((header) => {
      header.writeUInt32BE(0xe2792aca, 104);
      header.writeUInt32BE(3, 108);
      header.write('raw', 112);
      header.writeBigUInt64BE(0x200n, 8);
      header.writeUInt32BE(5, 16);
      header.write('/base', 0x200);
      spoil(header);
    });
  const inspectOverlay = (header: Buffer): unknown => inspectOverlayHeader(header, FILE_BYTES, 'disk');

  test('is told with what it says of that', () => {
    expect(inspectOverlay(overlay())).toEqual({
      virtualSizeBytes: GIB,
      backingPath: '/base',
      backingFormat: 'raw',
    });
    expect(inspectOverlay(qcow2())).toEqual({ virtualSizeBytes: GIB, backingPath: '', backingFormat: '' });
  });

  test.each<[string, RegExp, Buffer]>([
    ['keeps its data elsewhere', /external file/, overlay((h) => h.writeBigUInt64BE(4n, 72))],
    [
      'names a data file',
      /external data file/,
      overlay((h) => {
        h.writeUInt32BE(0x44415441, 120);
        h.writeUInt32BE(8, 124);
      }),
    ],
    ['is no qcow2', /no qcow2/, Buffer.alloc(CLUSTER_BYTES)],
    ['is cut off', /cut short/, overlay().subarray(0, 30)],
  ])('is refused when it %s', (_, reason, header) => {
    expect(() => inspectOverlay(header)).toThrow(ImageUnacceptable);
    expect(() => inspectOverlay(header)).toThrow(reason);
  });
});
