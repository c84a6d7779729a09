/** What the memory of a QEMU process is for, by its mappings. */

const KIB_IN_MIB = 1024;
const GUEST_FILE = /\/(ram|ram-node\d+|dimm\d+)$/;
/** No flavor has less, and QEMU maps nothing else of this size. */
const LEAST_GUEST_MB = 512;

/** MiB of one server's QEMU. */
export interface Memory {
  /** Written by it: nobody shares it, and it cannot be dropped. */
  readonly privateMb: number;
  /** Of that the guest's memory. */
  readonly guestMb: number;
  /** Of that the guest's code as emulation has translated it; none with KVM. */
  readonly translatedMb: number;
  /** With its share of what it shares. */
  readonly proportionalMb: number;
}

/** @param smaps as proc(5) has it: a line for each mapping, followed by lines about it */
export function readMemory(smaps: string): Memory {
  const of = { private: 0, guest: 0, translated: 0, proportional: 0 };
  for (const mapping of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, mode = '', path = ''] = /^\S+ (\S+) \S+ \S+ \S+ *(.*)$/m.exec(mapping) ?? [];
    const field = (name: string): number =>
      Number(new RegExp(`^${name}: *(\\d+) kB`, 'm').exec(mapping)?.[1] ?? 0) / KIB_IN_MIB;
    const dirty = field('Private_Dirty');
    of.private += dirty;
    of.proportional += field('Pss');
    if (mode.includes('x')) of.translated += path === '' ? dirty : 0;
    // Of files that libvirt or the cache named, or the one mapping without a file that is large enough.
    else if (GUEST_FILE.test(path) || (path === '' && field('Size') >= LEAST_GUEST_MB)) of.guest += dirty;
  }
  return {
    privateMb: of.private,
    guestMb: of.guest,
    translatedMb: of.translated,
    proportionalMb: of.proportional,
  };
}
