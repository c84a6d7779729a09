# shellcheck shell=bash
# What the Debian releases differ in, as cloud images: their names, and how their network is
# configured. Sourced by images/debian.

declare -A SUITES=([11]=bullseye [12]=bookworm [13]=trixie)

# Of every image.
COMMON_PACKAGES=(
  init systemd-sysv udev dbus libpam-systemd apt libc-bin login passwd adduser mount util-linux hostname
  netbase kmod procps less nano vim-tiny cron logrotate bash-completion lsb-release locales sudo
  initramfs-tools zstd e2fsprogs fdisk gdisk dosfstools
  cloud-init cloud-guest-utils qemu-guest-agent openssh-server
  systemd-timesyncd iproute2 iputils-ping curl ca-certificates
  python3 eatmydata
)

# suite_packages RELEASE : those of its plain image.
suite_packages() {
  printf '%s\n' "${COMMON_PACKAGES[@]}"
  case $1 in
    # Mirrors do not have every kernel of a release that is no longer supported in its security archive.
    11) printf '%s\n' linux-image-cloud-amd64/bullseye ifupdown isc-dhcp-client resolvconf ;;
    *) printf '%s\n' linux-image-cloud-amd64 netplan.io systemd-resolved ;;
  esac
}

# suite_sources RELEASE : its sources.list.
suite_sources() {
  local suite=${SUITES[$1]}
  printf 'deb %s main\n' "$MIRROR $suite" "$MIRROR $suite-updates" "$SECURITY_MIRROR $suite-security"
}
