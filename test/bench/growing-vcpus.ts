/**
 * How many processors a guest can grow to under emulation. Newer kernels (6.12.118 is one) plug in none on what they take for
 * bare hardware, unless the firmware calls it "online capable" (arch/x86/kernel/acpi/boot.c, acpi_is_processor_usable), which
 * QEMU's does not. They can tell KVM from bare hardware, but not emulation.
 */

const PLUGS_NONE = /^debian-13/;

/** The most vCPUs that a server of an image can have on a host without KVM, or undefined where nothing keeps it from more. */
export function mostVcpus(imageName: string): number | undefined {
  return PLUGS_NONE.test(imageName) ? 1 : undefined;
}
