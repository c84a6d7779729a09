/**
 * Finds out whether KVM can run a guest here, by running one: a boot sector that goes through all modes of the CPU and then
 * ends its own QEMU. `/dev/kvm` may well open, and QEMU start, on hosts whose hypervisor does not really offer nested
 * virtualisation: the guest then never runs, or only until the first thing that KVM would have to emulate.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NovaException } from '../../lib/exceptions';

const TIMEOUT_MS = 20_000;
/** `kvm-probe.S`, assembled. */
const CODE = Buffer.from(
  'fa31c08ed88ed0bc007c660f0116f87c0f20c00c010f22c066ea207c0000080066b810008ed88ec08ed0bc00' +
    '7c0000c70580110000a17c0800c70584110000008e00000f011d027d0000cd30bf002000000f22df31c0b900' +
    '0c0000f3abc7050020000003300000c7050030000003400000c70500400000830000000f20e00c200f22e0b9' +
    '800000c00f3280cc010f300f20c00d000000800f22c0eaa27c00001800cfc7042500130000d47c1800c70425' +
    '04130000008e0000c7042508130000000000000f011c25027d0000cd30b031e6f4f4ebfd48cf669000000000' +
    '00000000ffff0000009acf00ffff00000092cf00ffff0000009aaf001f00d87c000000000000ff0f0010',
  'hex',
);
/** What QEMU says before it leaves a guest standing that KVM gave up. */
const GIVEN_UP = 'KVM internal error';
/** isa-debug-exit ends QEMU with (value << 1) | 1. */
const EXIT_CODE = (0x31 << 1) | 1;

/** The probe's guest: a boot sector, padded to one sector, with the BIOS's signature. */
export function bootSector(): Buffer {
  const sector = Buffer.alloc(512);
  CODE.copy(sector);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/**
 * Runs the probe under `accelerator`.
 * @throws NovaException naming /dev/kvm and the cure when the guest does not run to its end in time
 */
export async function probeAccelerator(
  emulatorPath: string,
  accelerator: 'kvm' | 'tcg' = 'kvm',
  timeoutMs = TIMEOUT_MS,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'prebake-probe-'));
  try {
    const image = join(directory, 'boot-sector');
    await writeFile(image, bootSector());
    const outcome = await runGuest(emulatorPath, accelerator, image, timeoutMs);
    if (outcome !== null) {
      throw new NovaException(
        `[libvirt] virt_type = kvm, but KVM cannot run a guest on this host (/dev/kvm): ${outcome}. ` +
          'Set virt_type = qemu, or enable (nested) virtualisation for this host',
      );
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** @returns null when the guest ran, or what happened instead */
async function runGuest(
  emulatorPath: string,
  accelerator: string,
  image: string,
  timeoutMs: number,
): Promise<string | null> {
  const machine = ['-accel', accelerator, '-machine', 'pc', '-m', '16', '-nodefaults', '-no-user-config'];
  const devices = ['-display', 'none', '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04'];
  const drive = ['-drive', `file=${image},format=raw,if=ide,readonly=off,snapshot=on`];
  return await new Promise((resolve) => {
    const child = execFile(
      emulatorPath,
      [...machine, ...devices, ...drive],
      { timeout: timeoutMs, killSignal: 'SIGKILL' },
      (error, _stdout, stderr) => {
        if (error?.code === EXIT_CODE) resolve(null);
        else if (stderr.includes(GIVEN_UP)) resolve(`${GIVEN_UP} while the guest ran`);
        else if (error?.killed === true) resolve(`the guest did not run within ${timeoutMs} ms`);
        else resolve(stderr.trim() || (error?.message ?? 'the guest ended by itself'));
      },
    );
    child.stderr?.on('data', (text: string) => {
      if (text.includes(GIVEN_UP)) child.kill('SIGKILL');
    });
  });
}
