#!/bin/sh
# The gate for small guests without python: the same words on the same port as gate.py, in the
# shell and applets of busybox. Only what such guests have is sealed and set: no cloud-init.
umask 022
directory=/run/prebake
version=$(cat $directory/version)
deadline_s=60

find_port() {
  for name in /sys/class/virtio-ports/*/name; do
    [ "$(cat "$name" 2>/dev/null)" = org.prebake.gate.0 ] || continue
    name=${name%/name}
    echo "/dev/${name##*/}"
    return
  done
}

say() { printf '%s\n' "$1" >&3; }
now_ms() { awk '{printf "%d", $1 * 1000}' /proc/uptime; }
# step NAME: notes how long it took since the step before.
step() {
  at=$(now_ms)
  steps="$steps${steps:+,}\"$1\":$((at - step_at))"
  step_at=$at
}
begin_steps() {
  steps=
  step_at=$(now_ms)
}
fail() {
  say "{\"event\":\"error\",\"id\":\"$id\",\"step\":\"$1\",\"reason\":\"$2\"}"
  failed=yes
}
# Text that may stand between quotes in JSON.
plain() { tr -cd 'A-Za-z0-9._:/+=@ -' | head -c "${1:-255}"; }
first_line() { head -n 1 "$1" 2>/dev/null | plain 64; }
# wait_until COMMAND...: asks twenty times a second; kernel events have no waiting applet.
wait_until() {
  tries=$((deadline_s * 20))
  until "$@"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || return 1
    sleep 0.05
  done
}

root_disk() {
  device=$(awk '$2 == "/" && $1 ~ "^/dev/" {print $1}' /proc/mounts | tail -n 1)
  device=${device#/dev/}
  parent=$(readlink -f "/sys/class/block/$device/.." 2>/dev/null)
  if [ -f "$parent/size" ]; then echo "${parent##*/}"; else echo "$device"; fi
}
root_bytes_now() { echo $(($(cat "/sys/block/$(root_disk)/size" 2>/dev/null || echo 0) * 512)); }
memory_blocks() { grep -l "$1" /sys/devices/system/memory/memory*/state 2>/dev/null; }
memory_mb() { awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo; }

# let_go PCI-ADDRESS... : the virtio devices there lose their PCI drivers, until a clone takes them for its own: they are
# reset then, and all that they say of themselves is read anew.
let_go() {
  for address in "$@"; do
    for device in /sys/bus/pci/devices/"$address"/virtio*; do
      kind=$(readlink -f "$device/driver") || continue
      driver=$(readlink -f "/sys/bus/pci/devices/$address/driver") || continue
      spares="$spares ${kind##*/}=$driver=$address"
      echo "$address" >"$driver/unbind"
    done
  done
}
# take_spare KIND: gives those of this kind (virtio_net, virtio_blk) their driver back.
take_spare() {
  for spare in $spares; do
    [ "${spare%%=*}" = "$1" ] || continue
    spare=${spare#*=}
    echo "${spare#*=}" >"${spare%%=*}/bind"
  done
}

seal() {
  begin_steps
  killall -q udhcpc
  # shellcheck disable=SC2046 # one word each
  let_go $(field spares)
  rm -f /var/lib/instance-id /var/log/*.log /var/lib/dbus/machine-id /var/lib/dhcp/* /var/lib/udhcp* \
    /etc/dropbear/*_host_key /etc/ssh/ssh_host_* /root/.ash_history /run/user_data /run/udhcpc*
  rm -rf /tmp/* /var/tmp/*
  [ ! -e /etc/machine-id ] || : >/etc/machine-id
  [ ! -e /root/.ssh/authorized_keys ] || : >/root/.ssh/authorized_keys
  : >/etc/resolv.conf
  echo localhost >/etc/hostname
  hostname localhost
  step forget
  # First use of an applet costs its page faults; better now than in every clone.
  date -u -s "@$(date +%s)" >/dev/null
  ip address show >/dev/null
  echo cHJlYmFrZQ== | base64 -d >/dev/null
  nproc >/dev/null
  step rehearse
  sync
  fstrim / 2>/dev/null
  echo 3 >/proc/sys/vm/drop_caches
  step trim
  zero_free_memory
  step zero
  say "{\"event\":\"sealed\",\"id\":\"$id\",\"stepsMs\":{$steps}}"
}

# Fills free memory with zeroes and frees it: what no one uses then costs the µVM nothing.
zero_free_memory() {
  mkdir -p $directory/zero
  mount -t tmpfs -o size=100% zero $directory/zero || return 0
  free_mb=$(awk '/^MemFree/ {print int($2 / 1024) - 24}' /proc/meminfo)
  [ "$free_mb" -le 0 ] || dd if=/dev/zero of=$directory/zero/fill bs=1M count="$free_mb" 2>/dev/null
  umount $directory/zero
}

identify() {
  failed=
  begin_steps
  # In the kernel's ticks since its boot, as it keeps the start of every program.
  resumed_at=$(awk '{printf "%d", $1 * 100}' /proc/uptime)
  date -u -s "@$time_s" >/dev/null
  # Without an ioctl in the shell this only stirs the pool; the reseed is the kernel's own, by VMGENID.
  echo "$entropy" | base64 -d >/dev/urandom
  step clock
  # The host quoted every value, so the text assigns and does nothing else.
  assignments=$(echo "$sh" | base64 -d) || { fail message 'not base64'; return; }
  eval "$assignments"
  # shellcheck disable=SC2154 # hostname, instance_id, public_keys ...: assigned by that
  echo "$hostname" >/etc/hostname
  hostname "$hostname"
  mkdir -p /var/lib
  echo "$instance_id" >/var/lib/instance-id
  [ ! -e /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
  if [ -d /root/.ssh ]; then
    printf '%s\n' "$public_keys" | grep . >/root/.ssh/authorized_keys
    chmod 600 /root/.ssh/authorized_keys
  fi
  step files
  if command -v ssh-keygen >/dev/null 2>&1; then
    ssh-keygen -A >/dev/null 2>&1
    killall -q -HUP sshd
  fi
  # Started anew by init: it makes its own keys, from random numbers of this guest.
  killall -q dropbear
  step keys
  say "{\"event\":\"identity\",\"id\":\"$id\",\"stepsMs\":{$steps}}"
  [ -z "$interfaces" ] || take_spare virtio_net
  set_up_interfaces
  step network
  wait_until cpus_online || fail cpus "$(nproc) of $vcpus processors"
  step cpus
  wait_until memory_online || fail memory 'memory did not arrive'
  step memory
  wait_until root_arrived || fail disk 'the root disk did not grow'
  # shellcheck disable=SC2154 # assigned by the message, too
  wait_until disks_arrived || fail disk "not all of the disks arrived: $disks"
  # Behind the others, as in a cold boot.
  [ "$drive" != yes ] || take_spare virtio_blk
  step disk
  [ -z "$failed" ] || return
  # An address asked for by DHCP at the same moment may have flushed ours.
  set_up_interfaces
  say "{\"event\":\"ready\",\"id\":\"$id\",\"vcpus\":$(nproc),\"memoryMb\":$(memory_mb),\"rootBytes\":$(root_bytes_now),\"stepsMs\":{$steps}}"
  introduce
  finish &
}

# The console log begins with the clone: what a boot would have told there.
introduce() {
  {
    echo
    echo "prebake: this guest is a server of its own now"
    echo "prebake: Linux $(uname -r) on $(uname -m)"
    echo "prebake: hostname: $(hostname)"
    echo "prebake: instance: $(first_line /var/lib/instance-id)"
    echo "prebake: boot id: $(cat /proc/sys/kernel/random/boot_id)"
    echo "prebake: clock: $(date -u '+%Y-%m-%d %H:%M:%S') UTC"
    echo "prebake: processors: $(nproc)"
    echo "prebake: memory: $(memory_mb) MiB"
    echo "prebake: root disk: $(root_bytes_now) bytes"
    echo "prebake: root file system: $(df -k / | awk 'END {print $2, "KiB,", $4, "free"}')"
    ip -o address show scope global | awk '{print "prebake: address:", $2, $4}'
    echo "prebake: ready after $(now_ms) ms since the kernel began"
  } >/dev/console
}

set_up_interfaces() {
  # A here-document, not a pipe: a failure has to reach this shell.
  while read -r mac mtu how addresses routes servers; do
    [ -z "$mac" ] || wait_until find_interface "$mac" || fail network "no interface $mac"
    [ -n "$interface" ] || continue
    [ "$mtu" = - ] || ip link set "$interface" mtu "$mtu"
    ip link set "$interface" up
    for address in $(list "$addresses"); do ip address replace "$address" dev "$interface"; done
    for route in $(list "$routes"); do ip route replace "${route%%=*}" via "${route##*=}" dev "$interface"; done
    [ "$servers" = - ] || list "$servers" | sed 's/^/nameserver /' >/etc/resolv.conf
    # The network's other answers, and for as long as the lease lasts.
    [ "$how" = static ] || ask_for_lease
  done <<X
$interfaces
X
}
list() { [ "$1" = - ] || echo "$1" | tr , '\n'; }
find_interface() {
  interface=
  for path in /sys/class/net/*; do
    [ "$(cat "$path/address" 2>/dev/null)" != "$1" ] || interface=${path##*/}
  done
  [ -n "$interface" ]
}
ask_for_lease() {
  # Where the image brings up new interfaces itself it has started a client by now or soon will.
  [ ! -x /etc/nic ] && [ -e /usr/share/udhcpc/default.script ] || return 0
  [ -e "/run/prebake.$interface" ] || udhcpc -b -i "$interface" >/dev/null 2>&1 &
  : >"/run/prebake.$interface"
}

cpus_online() {
  for file in /sys/devices/system/cpu/cpu[0-9]*/online; do
    [ "$(cat "$file" 2>/dev/null)" != 0 ] || echo 1 >"$file"
  done
  [ "$(nproc)" -ge "$vcpus" ]
}
memory_online() {
  for state in $(memory_blocks offline); do
    echo online_movable >"$state" 2>/dev/null || echo online >"$state" 2>/dev/null
  done
  block_mb=$((0x$(cat /sys/devices/system/memory/block_size_bytes) / 1048576))
  [ $((($(memory_blocks online | wc -l) - baked_blocks) * block_mb)) -ge "$hotplug_memory_mb" ]
}
# As many as the message says, and the root.
disks_arrived() {
  # shellcheck disable=SC2086 # words
  set -- $disks
  [ "$(disks | wc -l)" -gt $# ]
}
root_arrived() { [ "$(root_bytes_now)" -ge "$root_bytes" ]; }

# What the user asked for beyond an identity; the guest is in use by now.
finish() {
  begin_steps
  if [ -n "$user_data" ]; then
    echo "$user_data" | base64 -d >/run/user_data
    chmod 700 /run/user_data
    # The port is the gate's alone.
    setsid /run/user_data </dev/null >/var/log/user_data.log 2>&1 3>&-
  fi
  step user-data
  rm -rf $directory
  say "{\"event\":\"done\",\"id\":\"$id\",\"stepsMs\":{$steps}}"
}

# strings: the lines of the input as what stands between the brackets of a list in JSON.
strings() { plain_lines | awk 'NF {printf "%s\"%s\"", (n++ ? "," : ""), $0}'; }
plain_lines() { tr -cd 'A-Za-z0-9._:/+=@ \n-' | cut -c 1-2000 | head -n 60; }
disks() {
  for path in /sys/block/*; do
    [ ! -e "$path/device" ] || echo "${path##*/} $(($(cat "$path/size") * 512))"
  done
}
macs() {
  for path in /sys/class/net/*; do
    [ ! -e "$path/device" ] || echo "${path##*/} $(cat "$path/address")"
  done
}
# Programs older than the restore, this one left out: fields 2 and 22 of their state.
survivors() {
  [ -n "$resumed_at" ] || return 0
  cat /proc/[0-9]*/stat 2>/dev/null | awk -v self=$$ -v limit="$resumed_at" '
    $1 != self && $1 != 2 && $4 != 2 && $22 < limit {gsub(/[()]/, "", $2); print $2}' | sort -u
}
leftovers() { ls -d $directory 2>/dev/null; }
random_seed() { sha256sum /var/lib/random-seed 2>/dev/null | cut -d' ' -f1; }

answer() {
  say "{\"event\":\"answers\",\"id\":\"$id\",\"answers\":{\"hostname\":\"$(hostname | plain)\",\
\"machineId\":\"$(first_line /etc/machine-id)\",\"dbusMachineId\":\"$(first_line /var/lib/dbus/machine-id)\",\
\"bootId\":\"$(cat /proc/sys/kernel/random/boot_id)\",\
\"productUuid\":\"$(first_line /sys/class/dmi/id/product_uuid)\",\
\"instanceId\":\"$(first_line /var/lib/instance-id)\",\"cloudInstanceId\":\"\",\"cloudStatus\":\"\",\
\"hostKeys\":[$(cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null | cut -d' ' -f1,2 | strings)],\
\"userKeys\":[$(cut -d' ' -f1,2 /root/.ssh/authorized_keys 2>/dev/null | strings)],\
\"randomSeed\":\"$(random_seed)\",\
\"random\":\"$(head -c 16 /dev/urandom | hexdump -v -e '1/1 "%02x"')\",\
\"kernelUuid\":\"$(cat /proc/sys/kernel/random/uuid)\",\
\"macs\":[$(macs | strings)],\"dhcpIds\":[],\"journalIds\":[],\"invocationIds\":[],\
\"survivors\":[$(survivors | strings)],\"leftovers\":[$(leftovers | strings)],\
\"addresses\":[$(ip -o address show scope global | awk '{print $2, $4}' | strings)],\
\"dnsServers\":[$(awk '$1 == "nameserver" {print $2}' /etc/resolv.conf 2>/dev/null | strings)],\
\"vcpus\":$(nproc),\"memoryMb\":$(memory_mb),\
\"rootBytes\":$(root_bytes_now),\"rootFilesystemBytes\":$(($(stat -f -c '%b * %S' /))),\
\"disks\":[$(disks | strings)],\"swaps\":[$(awk 'NR > 1 {print $1}' /proc/swaps | strings)],\
\"timeMs\":$(date +%s)000}}"
}

# field NAME: the string of that name in $line. The host puts these before anything a user wrote.
field() {
  value=${line#*\""$1"\":\"}
  printf '%s' "${value%%\"*}"
}

wait_until test -n "$(find_port)" || exit 1
exec 3<>"$(find_port)"
baked_blocks=$(memory_blocks online | wc -l)
resumed_at=
spares=
while :; do
  if ! read -r line <&3; then
    sleep 0.05 # no host on the other side
    continue
  fi
  id=$(field id)
  case $line in
    '{"op":"hello",'*)
      say "{\"event\":\"hello\",\"id\":\"$id\",\"gate\":\"$version\",\"kind\":\"busybox\",\"uptimeS\":$(cut -d' ' -f1 /proc/uptime)}"
      ;;
    '{"op":"seal",'*) seal ;;
    '{"op":"identify",'*)
      entropy=$(field entropy)
      sh=$(field sh)
      time_s=${line#*\"timeMs\":}
      time_s=$((${time_s%%[!0-9]*} / 1000))
      identify
      ;;
    '{"op":"ask",'*) answer ;;
    '{"op":"bye",'*) exit 0 ;;
  esac
done
