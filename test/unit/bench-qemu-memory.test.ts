/** What a QEMU's private memory is for, from mappings as proc(5) shows them. */
import { readMemory } from '../bench/qemu-memory';

/** A mapping: its first line, and those about it that count. */
function mapping(line: string, sizeMb: number, dirtyMb: number, pssMb = dirtyMb): string {
  const kib = (mb: number): string => `${String(mb * 1024).padStart(8)} kB`;
  return `${line}
Size:           ${kib(sizeMb)}
Rss:            ${kib(pssMb)}
Pss:            ${kib(pssMb)}
Pss_Dirty:      ${kib(dirtyMb)}
Private_Clean:  ${kib(0)}
Private_Dirty:  ${kib(dirtyMb)}
VmFlags: rd wr mr mw me ac sd
`;
}

test('the memory of a clone is in files, that of a cold server has none', () => {
  const smaps = [
    mapping('55d0c0a00000-55d0c1000000 r-xp 00300000 fe:00 1049 /usr/bin/qemu-system-x86_64', 6, 0, 2),
    mapping('55d0c2a00000-55d0c4000000 rw-p 00000000 00:00 0    [heap]', 22, 10),
    mapping('7f0000000000-7f0020000000 rw-p 00000000 fe:00 77   /srv/cache/materialised/ab/ram', 512, 40, 90),
    mapping('7f1000000000-7f1060000000 rw-p 00000000 fe:00 78   /ram/4-instance-00000001/dimm0', 1536, 30),
    mapping('7f2000000000-7f2040000000 rwxp 00000000 00:00 0 ', 1024, 46),
    mapping('7f3000000000-7f3004000000 rw-p 00000000 00:00 0 ', 64, 8),
  ].join('');
  expect(readMemory(smaps)).toEqual({
    privateMb: 134,
    guestMb: 70,
    translatedMb: 46,
    proportionalMb: 186,
  });
  const cold = mapping('7f0000000000-7f0080000000 rw-p 00000000 00:00 0 ', 2048, 300);
  expect(readMemory(cold).guestMb).toBe(300);
});
