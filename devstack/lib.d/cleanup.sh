# shellcheck shell=bash
# Taking the cloud down: guests, daemons in the order of who needs whom, and for wipe the
# namespaces, bridges and rules the network agents made. Sourced by all-in-one.

# for_guests COMMAND... : virsh COMMAND for every guest of this cloud, known by
# the names Nova and prebake give them: other domains are none of our business.
for_guests() {
  local uri uris=() domain
  if is_ready libvirtd; then uris+=(qemu:///system); fi
  if is_ready libvirtd-stock; then uris+=("$STOCK_URI"); fi
  for uri in "${uris[@]}"; do
    virsh -q -c "$uri" list --all --name | grep -E '^(instance-|prebake-)' | while read -r domain; do
      timeout 30 virsh -q -c "$uri" "$1" "$domain" "${@:2}" </dev/null || true # off already, or gone meanwhile
    done
  done
  return 0
}

down() {
  local begin=$EPOCHREALTIME control=() infrastructure=() name
  step guests for_guests destroy
  while read -r name; do
    # shellcheck disable=SC2153  # the list of services.sh
    case " ${INFRASTRUCTURE[*]} ${STOCK_HYPERVISOR[*]} " in
      *" $name "*) infrastructure+=("$name") ;;
      *) control+=("$name") ;;
    esac
  done < <(all_services)
  stop_services "${control[@]}"
  # The broker takes its leave from epmd, libvirtd from virtlogd.
  stop_services mariadb memcached rabbitmq libvirtd libvirtd-stock
  stop_services "${infrastructure[@]}"
  name=$(all_services | while read -r name; do pids_of "$name"; done)
  [ -z "$name" ] || fail "these processes would not stop: ${name//$'\n'/ }" "Look at them with ps; kill -9 is yours to use."
  report 'in all' "$begin"
}

# Namespaces, taps, bridges, rules and sets have the names that Neutron's agents give them.
remove_networks() {
  local name tool
  ip netns list | sed -n 's/^\(qdhcp-[0-9a-f-]*\).*/\1/p' | while read -r name; do ip netns delete "$name"; done
  ip -o link show type bridge | sed -n 's/^[0-9]*: \(brq[0-9a-f-]*\)[:@].*/\1/p' | while read -r name; do
    ip -o link show master "$name" | sed -n 's/^[0-9]*: \(tap[0-9a-f-]*\)[:@].*/\1/p' |
      while read -r tap; do ip link delete "$tap"; done
    ip link delete "$name"
  done
  for tool in iptables ip6tables; do
    if "$tool-save" | grep neutron- >/dev/null; then "$tool-save" | grep -v neutron- | "$tool-restore"; fi
  done
  ipset list -name | grep -E '^N?(IP|ET)v[46]' | while read -r name; do ipset destroy "$name"; done
  return 0
}

remove_state() {
  rm -f "$DASHBOARD" /etc/libvirt/hooks/qemu.d/prebake "$DEVSTACK/openrc"
  rmdir /etc/libvirt/hooks/qemu.d 2>/dev/null
  rm -rf "$ETC" "$LIB" "$LOG" "$IMAGES"/*.part
  find "$RUN" -mindepth 1 ! -name lock -delete
}

wipe() {
  # Only libvirtd can forget the guests that are switched off.
  [ ! -e "$LIB/stamps/databases" ] || start_services virtlogd libvirtd
  [ ! -e "$STOCK_LIBVIRT/etc" ] || start_services "${STOCK_HYPERVISOR[@]}"
  step 'guest definitions' for_guests undefine --managed-save --snapshots-metadata --nvram
  down && step networks remove_networks && remove_state
  echo "Forgotten: the data in $CLOUD. Still here: Debian's packages and the images in $IMAGES."
}
