# shellcheck shell=bash
# Turning a directory into a BIOS-bootable disk with extlinux as boot loader, a compressed
# qcow2. Sourced by the image scripts, which run as root.

MIB=1048576
BOOT_MIB=192
EXTLINUX=/usr/lib/EXTLINUX

# make_disk DIRECTORY QCOW2 SIZE_MIB LABEL KERNEL-ARGUMENTS [LAYOUT]
# DIRECTORY has /vmlinuz and /initrd.img (links are fine). The QCOW2 appears when complete.
# LAYOUT ext4: one partition; xfs: GPT, an ext4 /boot labelled cloudimg-boot, an XFS root.
make_disk() {
  local root=$1 out=$2 size_mib=$3 label=$4 arguments=$5 layout=${6:-ext4} raw=$2.raw.part
  MOUNT=$out.mount
  LOOPS=()
  mkdir -p "$MOUNT"
  rm -f "$raw"
  truncate -s "${size_mib}M" "$raw"
  trap release_disk EXIT
  "partition_$layout" "$raw" "$size_mib" "$label"
  cp -a "$root/." "$MOUNT/"
  mkdir -p "$MOUNT/boot/extlinux"
  boot_menu "$layout" "root=LABEL=$label $arguments" >"$MOUNT/boot/extlinux/extlinux.conf"
  extlinux --install "$MOUNT/boot/extlinux" >/dev/null 2>&1
  release_disk
  trap - EXIT
  qemu-img convert -c -W -m 4 -O qcow2 "$raw" "$out.part"
  rm -f "$raw"
  mv "$out.part" "$out"
}

partition_ext4() {
  printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$1"
  dd if="$EXTLINUX/mbr.bin" of="$1" conv=notrunc bs=440 count=1 status=none
  attach "$1" 1 $(($2 - 1))
  make_ext4 "$3"
  mount "$LOOP" "$MOUNT"
}

partition_xfs() {
  printf 'label: gpt\nstart=2048, size=%sMiB, type=linux, attrs=LegacyBIOSBootable\ntype=linux\n' "$BOOT_MIB" | sfdisk -q "$1"
  dd if="$EXTLINUX/gptmbr.bin" of="$1" conv=notrunc bs=440 count=1 status=none
  # One MiB at the end is for the second partition table.
  attach "$1" $((1 + BOOT_MIB)) $(($2 - BOOT_MIB - 2))
  mkfs.xfs -q -f -L "$3" "$LOOP"
  mount "$LOOP" "$MOUNT"
  mkdir -p "$MOUNT/boot"
  attach "$1" 1 "$BOOT_MIB"
  make_ext4 cloudimg-boot
  mount "$LOOP" "$MOUNT/boot"
}

# attach RAW START_MIB SIZE_MIB : LOOP is that part of it.
attach() {
  LOOP=$(losetup --find --show --offset $(($2 * MIB)) --sizelimit $(($3 * MIB)) "$1")
  LOOPS+=("$LOOP")
}

# extlinux reads neither 64-bit block numbers nor checksummed metadata.
make_ext4() { mkfs.ext4 -q -F -L "$1" -m 1 -O ^64bit,^metadata_csum "$LOOP"; }

# boot_menu LAYOUT KERNEL-ARGUMENTS : the boot loader sees the partition that it is on.
boot_menu() {
  local kernel=/vmlinuz initrd=/initrd.img
  if [ "$1" = xfs ]; then
    kernel=/$(basename "$(readlink "$MOUNT/vmlinuz")")
    initrd=/$(basename "$(readlink "$MOUNT/initrd.img")")
  fi
  cat <<X
DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
 LINUX $kernel
 INITRD $initrd
 APPEND $2 console=tty0 console=ttyS0,115200 consoleblank=0
X
}

release_disk() {
  local loop
  ! mountpoint -q "$MOUNT" || umount -R "$MOUNT"
  for loop in "${LOOPS[@]}"; do losetup -d "$loop"; done
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
