# shellcheck shell=bash
# What 'up --with' adds: Horizon, tempest and its configuration, an object store, a key manager,
# libguestfs, a stock nova-compute. Once asked for, an extra belongs to this cloud until it is wiped. Sourced by all-in-one.

KNOWN_EXTRAS='horizon tempest swift barbican guestfish nova-compute'
DASHBOARD=/etc/openstack-dashboard/local_settings.d/_9999_prebake.py

# remember_extras A,B,C
remember_extras() {
  local extra
  for extra in ${1//,/ }; do
    case " $KNOWN_EXTRAS " in
      *" $extra "*) stamp "with-$extra" 1 ;;
      *) fail "there is no extra named '$extra'" "Known: ${KNOWN_EXTRAS// /, }, separated by commas." ;;
    esac
  done
}

remembered_extras() {
  local extra
  for extra in $KNOWN_EXTRAS; do [ ! -e "$LIB/stamps/with-$extra" ] || echo "$extra"; done
}

# Extra services of this cloud, in starting order.
extra_services() {
  local extra
  for extra in $(remembered_extras); do
    case $extra in
      horizon) echo horizon ;;
      swift) printf '%s\n' "${SWIFT[@]}" ;;
      barbican) echo barbican ;;
      nova-compute) printf '%s\n' "${STOCK_HYPERVISOR[@]}" neutron-linuxbridge-stock nova-compute ;;
    esac
  done
}

# Horizon reads its settings from /etc alone: one file there, removed by wipe.
config_horizon() {
  put "$DASHBOARD" 640 <<X
SECRET_KEY = "$DASHBOARD_PASSWORD"
ALLOWED_HOSTS = ["$IP", "localhost"]
OPENSTACK_KEYSTONE_URL = "http://$IP:5000/v3"
OPENSTACK_API_VERSIONS = {"identity": 3, "image": 2, "volume": 3}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": "$IP:11211"}}
OPENSTACK_NEUTRON_NETWORK = {"enable_router": True, "enable_quotas": True, "enable_fip_topology_check": False}
CONSOLE_TYPE = "VNC"
X
}

launch_horizon() {
  local static=/var/lib/openstack-dashboard/static
  wsgi horizon 8088 /usr/share/openstack-dashboard/wsgi.py -- --pythonpath /usr/share/openstack-dashboard \
    --static-map "/static=$static" --static-map "/horizon/static=$static"
}

# Neither host may see the other's guests, and Nova names a hypervisor after the hostname that
# its libvirtd sees: the stock host has a libvirtd of its own, with its own name and places.
STOCK_HYPERVISOR=(virtlogd-stock libvirtd-stock)
STOCK_LIBVIRT=$LIB/$STOCK_HOST/libvirt
# shellcheck disable=SC2034  # used by services.sh and cleanup.sh
STOCK_URI="qemu:///system?socket=$STOCK_LIBVIRT/run/libvirt-sock"

# launch_on_stock_host NAME COMMAND... : in namespaces of its own that look like every other
# service's there: the places are plain directories, so nobody has to enter another's.
launch_on_stock_host() {
  local name=$1
  shift
  # shellcheck disable=SC2016
  launch "$name" unshare --mount --uts --propagation slave /bin/sh -c \
    'hostname "$0" && mount --bind "$1/etc" /etc/libvirt && mount --bind "$1/lib" /var/lib/libvirt &&
      mount --bind "$1/cache" /var/cache/libvirt && mount --bind "$1/log" /var/log/libvirt &&
      mount --bind "$1/run" /run/libvirt && shift && exec "$@"' \
    "$STOCK_HOST" "$STOCK_LIBVIRT" "$@"
}

launch_stock() {
  mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
  case $1 in
    virtlogd-stock) launch_on_stock_host "$1" virtlogd --pid-file "$STOCK_LIBVIRT/run/virtlogd.pid" ;;
    libvirtd-stock) KEEP_CHILDREN=1 launch_on_stock_host "$1" \
      libvirtd --config /etc/libvirt/libvirtd.conf --pid-file "$STOCK_LIBVIRT/run/libvirtd.pid" ;;
    nova-compute) launch_on_stock_host "$1" nova-compute --config-file "$ETC/stock-compute.conf" ;;
  esac
}

# The stock compute service is a second host of this cloud. Its ports bind only where an L2
# agent reports that host's name, so it has one; security groups are the first agent's work.
config_stock_compute() {
  config_compute_host "$STOCK_HOST" "$LIB/$STOCK_HOST" | put "$ETC/stock-compute.conf"
  mkdir -p "$STOCK_LIBVIRT"/{etc,lib,cache,log,run}
  put "$STOCK_LIBVIRT/etc/libvirtd.conf" 644 <"$ETC/libvirtd.conf"
  put "$STOCK_LIBVIRT/etc/qemu.conf" 644 <"$ETC/qemu.conf"
  put "$ETC/stock-linuxbridge.ini" <<X
[DEFAULT]
host = $STOCK_HOST
log_file = neutron-linuxbridge-stock.log
[vxlan]
enable_vxlan = false
[securitygroup]
enable_security_group = false
firewall_driver = noop
X
}

config_extras() {
  local extra
  for extra in $(remembered_extras); do
    case $extra in
      horizon) config_horizon || return ;;
      swift) config_swift || return ;;
      barbican) config_barbican || return ;;
      nova-compute) config_stock_compute || return ;;
    esac
  done
}

# Two configurations: one asks the API alone, one logs in to the guests, too.
config_tempest() {
  local horizon=false
  [ ! -e "$LIB/stamps/with-horizon" ] || horizon=true
  mkdir -p "$LIB/tempest/lock"
  tempest_conf api tiny "$horizon" && tempest_conf guests tiny-ssh "$horizon" && reach_private_network
}

# tempest_conf KIND IMAGE HORIZON
tempest_conf() {
  build_image "$2" && image_in_glance "$2" >/dev/null &&
    as_admin /usr/bin/python3 "$DEVSTACK/lib.d/tempest.py" "$1" "$2" "$LIB/tempest" "$LOG" "$3" >"$RUN/tempest-$1.conf" &&
    put "$ETC/tempest-$1.conf" <"$RUN/tempest-$1.conf"
}

# Tempest logs in to guests from this machine: an address in their network, on the bridge that Neutron made for it,
# outside of what its DHCP gives away.
reach_private_network() {
  local network
  network=$(as_admin openstack network show -f value -c id private) &&
    ip address replace 10.77.0.2/24 dev "brq${network:0:11}"
}

start_extras() {
  local services
  mapfile -t services < <(extra_services)
  # A compute service that finds no libvirtd when it starts gives up.
  [[ " ${services[*]} " != *' libvirtd-stock '* ]] || start_services "${STOCK_HYPERVISOR[@]}" || return
  [ ! -e "$LIB/stamps/with-barbican" ] || step 'schema barbican' schema_barbican || return
  [ "${#services[@]}" -eq 0 ] || start_services "${services[@]}" || return
  [ ! -e "$LIB/stamps/with-tempest" ] || step tempest.conf config_tempest
}
