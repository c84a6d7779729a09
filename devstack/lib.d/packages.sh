# shellcheck shell=bash
# Debian packages of the cloud: which ones, and how they get onto the machine without
# a daemon being started by its own maintainer script. Sourced by all-in-one.

PACKAGES=(
  mariadb-server rabbitmq-server memcached uwsgi-core uwsgi-plugin-python3
  keystone glance placement-api
  neutron-server neutron-linuxbridge-agent neutron-dhcp-agent dnsmasq-base ipset ebtables iptables
  nova-api nova-conductor nova-scheduler nova-consoleproxy
  python3-openstackclient python3-openstacksdk python3-pymysql python3-memcache
  qemu-system-x86 qemu-utils ovmf openvswitch-switch libvirt-daemon-system libvirt-clients genisoimage
  mmdebstrap extlinux syslinux-common busybox-static cpio fdisk kmod e2fsprogs xfsprogs
  curl iproute2 iputils-ping openssh-client procps openssl strace faketime swtpm swtpm-tools
)
PACKAGES_HORIZON=(openstack-dashboard)
PACKAGES_TEMPEST=(tempest)
PACKAGES_SWIFT=(swift-proxy swift-account swift-container swift-object)
PACKAGES_BARBICAN=(barbican-api)
# It starts guests with a kernel of the machine's.
PACKAGES_GUESTFISH=(guestfish linux-image-cloud-amd64)
PACKAGES_NOVA_COMPUTE=(nova-compute nova-compute-kvm)

POLICY=/usr/sbin/policy-rc.d

# Prints the packages of the wanted set ($@ = extras) that are not installed.
missing_packages() {
  local wanted=("${PACKAGES[@]}") extra
  for extra in "$@"; do
    case $extra in
      horizon) wanted+=("${PACKAGES_HORIZON[@]}") ;;
      tempest) wanted+=("${PACKAGES_TEMPEST[@]}") ;;
      swift) wanted+=("${PACKAGES_SWIFT[@]}") ;;
      barbican) wanted+=("${PACKAGES_BARBICAN[@]}") ;;
      guestfish) wanted+=("${PACKAGES_GUESTFISH[@]}") ;;
      nova-compute) wanted+=("${PACKAGES_NOVA_COMPUTE[@]}") ;;
    esac
  done
  not_installed "${wanted[@]}"
}

# Prints those of the packages that are not installed.
not_installed() {
  # dpkg-query fails when it knows nothing of a package: that package is missing too.
  comm -23 <(printf '%s\n' "$@" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | awk '$1 == "ii" {print $2}' | sort -u)
}

# The databases and the catalogue are made by schema.sh, never by dbconfig-common.
answer_debconf() {
  local package
  debconf-set-selections <<X
keystone keystone/configure_db boolean false
keystone keystone/create-admin-tenant boolean false
keystone keystone/register-endpoint boolean false
X
  for package in glance placement neutron nova barbican; do
    printf '%s-common %s/configure_db boolean false\n' "$package" "$package"
  done | debconf-set-selections
  for package in glance-api:glance placement-api:placement neutron-server:neutron neutron-api:neutron nova-api:nova barbican-api:barbican; do
    printf '%s %s/register-endpoint boolean false\n' "${package%:*}" "${package#*:}"
  done | debconf-set-selections
}

# A machine that has a policy-rc.d keeps it; ours exists only while apt runs.
forbid_service_starts() {
  [ -e "$POLICY" ] && return
  printf '#!/bin/sh\n# prebake all-in-one, while it installs packages\nexit 101\n' >"$POLICY"
  chmod 755 "$POLICY"
}

allow_service_starts() {
  if grep -qs 'prebake all-in-one' "$POLICY"; then rm -f "$POLICY"; fi
}

# Units of packages that came with this run would start at the next boot, on our ports.
disable_new_units() {
  [ -d /run/systemd/system ] || return 0
  local before=$1 package units=()
  while read -r package; do
    mapfile -t -O "${#units[@]}" units < <(dpkg -L "$package" 2>/dev/null |
      sed -n 's,^/\(usr/\)\?lib/systemd/system/\([^/@]*\.\(service\|socket\|timer\)\)$,\2,p')
  done < <(comm -13 "$before" <(installed_packages))
  [ "${#units[@]}" -eq 0 ] || systemctl disable --now --quiet "${units[@]}" 2>/dev/null || true
}

installed_packages() { dpkg-query -W -f '${binary:Package}\n' | sort -u; }

# install_packages EXTRA... : installs what is missing; returns at once when nothing is.
install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  install_wanted "${missing[@]}"
}

# install_wanted PACKAGE... : installs those that are missing, and starts nothing of them.
install_wanted() {
  [ $# -gt 0 ] || return 0
  local missing before="$RUN/packages.before"
  mapfile -t missing < <(not_installed "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  installed_packages >"$before"
  answer_debconf
  forbid_service_starts
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends
    -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3
    -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io)
  # An unreachable third-party source must not stop us: the install below decides.
  "${apt[@]}" update || true
  "${apt[@]}" install "${missing[@]}" || { allow_service_starts; return 1; }
  allow_service_starts
  disable_new_units "$before"
  rm -f "$before"
}
