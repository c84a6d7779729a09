/** libvirt, QEMU and KVM: new enough, what the versions cost, and whether guests really run under KVM. */
import { describeError } from '../exceptions';
import { type Check, type Finding, fail, ok, warn } from './check';
import type { Machine } from './machine';

/** What is asked of the hypervisor; `open-doctor.ts` of the command line gives it by the driver's means. */
export interface Hypervisor {
  /** libvirt's numbers: 9000000 for 9.0.0, 7002022 for QEMU 7.2.22. Rejects when libvirtd cannot be reached. */
  versions(): Promise<{ readonly libvirt: number; readonly qemu: number }>;
  /** Runs a guest under KVM; rejects with why it cannot. */
  probeKvm(): Promise<void>;
  /** Who QEMU runs as, and what else confines it (`apparmor`, `selinux`), by libvirt's capabilities. */
  confinement(): Promise<{ readonly uid: number; readonly models: readonly string[] }>;
  /** Whether /dev/kvm can be opened, `missing` when there is none. */
  kvmDevice(): Promise<'opens' | 'missing' | 'refused'>;
}

const MIN_LIBVIRT = 9_000_000;
const MIN_QEMU = 7_002_000;
/** The newest pair that was measured: libvirt then reads the properties of a guest's CPU in one go. */
const FAST_LIBVIRT = 12_008_000;
const FAST_QEMU = 11_001_000;
const KVM_TIMEOUT_MS = 40_000;

/** `9.0.0` of 9000000. */
export function formatVersion(version: number): string {
  return [Math.floor(version / 1_000_000), Math.floor(version / 1000) % 1000, version % 1000].join('.');
}

export function libvirtCheck(hypervisor: Hypervisor): Check {
  return {
    name: 'libvirt',
    fix: 'start libvirtd (systemctl start libvirtd), and see that [libvirt] connection_uri names it',
    run: async () => {
      const { libvirt } = await hypervisor.versions();
      const version = `libvirt ${formatVersion(libvirt)}`;
      return libvirt < MIN_LIBVIRT
        ? fail(`${version} is too old`, `upgrade to libvirt ${formatVersion(MIN_LIBVIRT)} or newer`)
        : ok(version);
    },
  };
}

export function qemuCheck(hypervisor: Hypervisor): Check {
  return {
    name: 'qemu',
    needs: ['libvirt'],
    fix: 'apt-get install qemu-system-x86',
    run: async () => {
      const { libvirt, qemu } = await hypervisor.versions();
      const version = `QEMU ${formatVersion(qemu)}`;
      if (qemu < MIN_QEMU) {
        return fail(`${version} is too old`, `upgrade to QEMU ${formatVersion(MIN_QEMU)} or newer`);
      }
      const costs = [
        ...(libvirt < FAST_LIBVIRT || qemu < FAST_QEMU
          ? [
              'this pair may spend 0.3 s of every start on reading CPU properties one by one ' +
                '(measured: 0.4-0.5 s to create a guest with libvirt 9.0 and QEMU 7.2, 0.1 s with 12.8 and 11.1)',
            ]
          : []),
      ];
      return ok([version, ...costs].join('; '));
    },
  };
}

/** Read by libvirt's rules for each guest: what an operator adds to them. */
const LOCAL_RULES = '/etc/apparmor.d/local/abstractions/libvirt-qemu';
/** `docs/install/prebake.apparmor`, as the package installs it. */
const OWN_RULES = '/etc/apparmor.d/abstractions/prebake';

/**
 * As whom QEMU runs, which decides whether clones share their µVM's RAM file, and whether what confines it lets it have
 * that file.
 * @param cacheDirectory `[prebake] cache_directory`
 */
export function qemuUserCheck(hypervisor: Hypervisor, machine: Machine, cacheDirectory: string): Check {
  return {
    name: 'qemu-user',
    needs: ['libvirt'],
    fix: 'see that libvirtd runs',
    run: async () => {
      const { uid, models } = await hypervisor.confinement();
      const others = models.filter((model) => model !== 'apparmor');
      if (others.length > 0) {
        return warn(
          `QEMU is confined by ${others.join(' and ')}, under which µVMs have not been tried`,
          'allow QEMU the cache directory, or set security_driver = "none" in /etc/libvirt/qemu.conf',
        );
      }
      const missing = models.includes('apparmor') ? await missingRules(machine, cacheDirectory) : null;
      if (missing !== null) return missing;
      const confined = models.includes('apparmor') ? ', confined by AppArmor with rules for µVMs' : '';
      return ok(
        uid === 0
          ? `QEMU runs as root${confined}: clones share the memory of their µVM until they write to it`
          : `QEMU runs as user ${uid}${confined}: each clone gets a copy of its µVM's memory (docs/security.md says why)`,
      );
    },
  };
}

/** @returns what is wrong with AppArmor's rules for QEMU; null when they name the cache */
async function missingRules(machine: Machine, cacheDirectory: string): Promise<Finding | null> {
  const read = (path: string): Promise<string> => machine.readText(path).catch(() => '');
  const rules = (text: string): string => text.replace(/^\s*#(?!include).*/gm, '');
  const local = rules(await read(LOCAL_RULES));
  const included = /^\s*#?include\s+(?:if exists\s+)?<abstractions\/prebake>/m.test(local);
  const known = included ? rules(await read(OWN_RULES)) : local;
  const refused = 'QEMU is confined by AppArmor and may not open µVMs: bakes fail, servers boot cold';
  if (known.includes(`${cacheDirectory}/`)) return null;
  return included
    ? warn(refused, `give the rules in ${OWN_RULES} the cache_directory ${cacheDirectory}`)
    : warn(refused, `echo 'include <abstractions/prebake>' >>${LOCAL_RULES}`);
}

/** @param virtType `[libvirt] virt_type` */
export function kvmCheck(hypervisor: Hypervisor, virtType: 'kvm' | 'qemu'): Check {
  const fix =
    'enable virtualisation in the firmware (nested virtualisation in a VM) and load kvm_intel or kvm_amd';
  return {
    name: 'kvm',
    needs: ['libvirt'],
    timeoutMs: KVM_TIMEOUT_MS,
    fix,
    run: async () => {
      const found = await tryKvm(hypervisor);
      if (found.runs) {
        return virtType === 'kvm'
          ? ok('a guest ran under KVM')
          : warn(
              'a guest runs under KVM here, but [libvirt] virt_type = qemu emulates, about ten times slower',
              'set [libvirt] virt_type = kvm, and bake again: µVMs are made for one of the two',
            );
      }
      return virtType === 'kvm'
        ? fail(
            [found.why, ...(found.error === undefined ? [] : [describeError(found.error)])].join(': '),
            `${fix}; or set [libvirt] virt_type = qemu`,
          )
        : ok(`emulation, as [libvirt] virt_type = qemu says (${found.why})`);
    },
  };
}

async function tryKvm(
  hypervisor: Hypervisor,
): Promise<{ runs: true } | { runs: false; why: string; error?: unknown }> {
  const device = await hypervisor.kvmDevice();
  if (device === 'missing') return { runs: false, why: 'there is no /dev/kvm' };
  if (device === 'refused') return { runs: false, why: '/dev/kvm cannot be opened' };
  try {
    await hypervisor.probeKvm();
    return { runs: true };
  } catch (error) {
    return { runs: false, why: '/dev/kvm opens, but no guest runs', error };
  }
}
