/**
 * Finds out whether KVM can run a guest here, by running one: a boot sector of a few instructions that ends its own QEMU.
 * `/dev/kvm` may well open, and QEMU start, on hosts whose hypervisor does not really offer nested virtualisation: the
 * guest then just never runs.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NovaException } from '../../lib/exceptions';

const TIMEOUT_MS = 10_000;
/** Real mode: mov al, 0x31; out 0xf4, al; hlt; jmp back to hlt */
const CODE = Buffer.from([0xb0, 0x31, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd]);
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
    execFile(
      emulatorPath,
      [...machine, ...devices, ...drive],
      { timeout: timeoutMs, killSignal: 'SIGKILL' },
      (error, _stdout, stderr) => {
        if (error?.code === EXIT_CODE) resolve(null);
        else if (error?.killed === true) resolve(`the guest did not run within ${timeoutMs} ms`);
        else resolve(stderr.trim() || (error?.message ?? 'the guest ended by itself'));
      },
    );
  });
}
