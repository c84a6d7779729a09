# shellcheck shell=bash
# What 'up --with' adds: Horizon, tempest and its configuration, a stock nova-compute.
# Once asked for, an extra belongs to this cloud until it is wiped. Sourced by all-in-one.

KNOWN_EXTRAS='horizon tempest nova-compute'
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
      nova-compute) printf '%s\n' neutron-linuxbridge-stock nova-compute ;;
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

# The stock compute service is a second host of this cloud. Its ports bind only where an L2
# agent reports that host's name, so it has one; security groups are the first agent's work.
config_stock_compute() {
  config_compute_host "$STOCK_HOST" "$LIB/$STOCK_HOST" | put "$ETC/stock-compute.conf"
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
      nova-compute) config_stock_compute || return ;;
    esac
  done
}

# Tempest needs two images, two flavors and an external network to point at.
config_tempest() {
  local image horizon=false
  [ ! -e "$LIB/stamps/with-horizon" ] || horizon=true
  mkdir -p "$LIB/tempest/lock"
  build_image tiny && image=$(image_in_glance tiny) &&
    as_admin /usr/bin/python3 "$DEVSTACK/lib.d/tempest.py" "$image" "$IMAGES/tiny.qcow2" "$LIB/tempest" "$LOG" \
      "$horizon" >"$RUN/tempest.conf" && put "$ETC/tempest.conf" <"$RUN/tempest.conf"
}

start_extras() {
  local services
  mapfile -t services < <(extra_services)
  [ "${#services[@]}" -eq 0 ] || start_services "${services[@]}" || return
  [ ! -e "$LIB/stamps/with-tempest" ] || step tempest.conf config_tempest
}
