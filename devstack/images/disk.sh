# shellcheck shell=bash
# Turning a directory into a BIOS-bootable disk: one ext4 partition, extlinux as boot
# loader, a compressed qcow2. Sourced by the image scripts, which run as root.

# make_disk DIRECTORY QCOW2 SIZE_MIB LABEL KERNEL-ARGUMENTS
# DIRECTORY has /vmlinuz and /initrd.img (links are fine). The QCOW2 appears when complete.
make_disk() {
  local root=$1 out=$2 size_mib=$3 label=$4 arguments=$5 raw=$2.raw.part mount=$2.mount
  mkdir -p "$root/boot/extlinux" "$mount"
  cat >"$root/boot/extlinux/extlinux.conf" <<X
DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
 LINUX /vmlinuz
 INITRD /initrd.img
 APPEND root=LABEL=$label $arguments console=tty0 console=ttyS0,115200 consoleblank=0
X
  rm -f "$raw"
  truncate -s "${size_mib}M" "$raw"
  printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$raw"
  dd if=/usr/lib/EXTLINUX/mbr.bin of="$raw" conv=notrunc bs=440 count=1 status=none
  LOOP=$(losetup --find --show --offset 1048576 "$raw")
  MOUNT=$mount
  trap release_disk EXIT
  # extlinux reads neither 64-bit block numbers nor checksummed metadata.
  mkfs.ext4 -q -F -L "$label" -m 1 -O ^64bit,^metadata_csum "$LOOP"
  mount "$LOOP" "$mount"
  cp -a "$root/." "$mount/"
  extlinux --install "$mount/boot/extlinux" >/dev/null 2>&1
  release_disk
  trap - EXIT
  qemu-img convert -c -W -m 4 -O qcow2 "$raw" "$out.part"
  rm -f "$raw"
  mv "$out.part" "$out"
}

release_disk() {
  ! mountpoint -q "$MOUNT" || umount "$MOUNT"
  losetup -d "$LOOP"
  rmdir "$MOUNT"
}

# require_output "$@" : OUT is the one argument; everything else is a reason to explain.
require_output() {
  case ${1:---help} in
    -*) usage && exit ;;
  esac
  [ "$(id -u)" = 0 ] || { echo "$0: root is needed, for loop devices and mounts" >&2; exit 1; }
  mkdir -p "$(dirname "$1")"
  # shellcheck disable=SC2034  # the image scripts' own
  OUT=$(readlink -f "$(dirname "$1")")/$(basename "$1")
}
