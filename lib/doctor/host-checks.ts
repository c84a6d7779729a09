/** What the machine itself must offer: root, a few programs, memory and disk. */
import { type Check, fail, ok, warn } from './check';
import type { Machine } from './machine';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** Below this a bake (a RAM file, a disk delta and the pages of both) or an image download may not fit. */
const SCANT_DISK_BYTES = 10 * GIB;
const NO_DISK_BYTES = 2 * GIB;

/** Programs of the host that the service runs, and their packages on Debian. */
const PROGRAMS = [
  ['qemu-img', 'qemu-utils'],
  ['genisoimage', 'genisoimage'],
  ['ip', 'iproute2'],
  ['mkswap', 'util-linux'],
] as const;

/** What of the configuration these checks look at. */
export interface HostExpectations {
  readonly instancesPath: string;
  readonly cacheDirectory: string;
  readonly reservedHostMemoryMb: number;
  readonly baseMemoryMb: number;
}

export function rootCheck(machine: Machine): Check {
  const fix = 'run it as root: taps, bridges, disks and the memory of guests belong to root';
  return {
    name: 'root',
    fix,
    run: () => {
      const uid = machine.uid();
      return Promise.resolve(uid === 0 ? ok('running as root') : fail(`running as user ${uid}`, fix));
    },
  };
}

export function programsCheck(machine: Machine): Check {
  return {
    name: 'programs',
    fix: 'apt-get install qemu-utils genisoimage iproute2',
    run: async () => {
      const places = await Promise.all(PROGRAMS.map(([program]) => machine.which(program)));
      const missing = PROGRAMS.filter((_program, index) => places[index] === null);
      if (missing.length === 0) return ok(places.join(', '));
      const names = missing.map(([program]) => program).join(', ');
      return fail(
        `not installed: ${names}`,
        `apt-get install ${missing.map(([, packageName]) => packageName).join(' ')}`,
      );
    },
  };
}

/** @param version of libzstd, throws when it cannot be loaded */
export function zstdCheck(version: () => string): Check {
  return {
    name: 'zstd',
    fix: 'apt-get install libzstd1',
    run: () => Promise.resolve().then(() => ok(`libzstd ${version()}`)),
  };
}

export function memoryCheck(machine: Machine, expected: HostExpectations): Check {
  const { reservedHostMemoryMb, baseMemoryMb } = expected;
  return {
    name: 'memory',
    fix: 'see that /proc/meminfo can be read',
    run: async () => {
      const { totalMb, availableMb } = await machine.memory();
      const detail = `${availableMb} MiB of ${totalMb} MiB available, ${reservedHostMemoryMb} MiB reserved for the host`;
      if (totalMb - reservedHostMemoryMb < baseMemoryMb) {
        return fail(
          `${detail}: less is left than the ${baseMemoryMb} MiB of one µVM`,
          'lower [DEFAULT] reserved_host_memory_mb or [prebake] base_memory_mb, or add memory',
        );
      }
      if (availableMb < 2 * baseMemoryMb) {
        return warn(
          `${detail}: a bake and its proof take ${2 * baseMemoryMb} MiB`,
          'free memory, or bake when fewer servers run (prebake bake IMAGE)',
        );
      }
      return ok(detail);
    },
  };
}

export function diskCheck(machine: Machine, expected: HostExpectations): Check {
  const places = [
    ['[DEFAULT] instances_path', expected.instancesPath],
    ['[prebake] cache_directory', expected.cacheDirectory],
  ] as const;
  const fix = `free space there, or point ${places.map(([option]) => option).join(' or ')} to a larger file system`;
  return {
    name: 'disk',
    fix,
    run: async () => {
      const spaces = await Promise.all(places.map(([, path]) => machine.space(path)));
      const closed = places.filter((_place, index) => spaces[index]?.writable === false);
      if (closed.length > 0) {
        return fail(
          `nothing can be written to ${closed.map(([option, path]) => `${path} (${option})`).join(' and ')}`,
          'see why its file system is read-only (dmesg, findmnt), check the disk, and mount -o remount,rw',
        );
      }
      const least = Math.min(...spaces.map((space) => space.freeBytes));
      const detail = places
        .map(([, path], index) => `${gib(spaces[index]?.freeBytes ?? 0)} free at ${path}`)
        .join(', ');
      if (least < NO_DISK_BYTES) return fail(`${detail}: not enough for images and bakes`, fix);
      if (least < SCANT_DISK_BYTES) return warn(`${detail}: a few images and bakes fill that`, fix);
      return ok(detail);
    },
  };
}

function gib(bytes: number): string {
  return bytes < GIB ? `${Math.floor(bytes / MIB)} MiB` : `${(bytes / GIB).toFixed(1)} GiB`;
}
