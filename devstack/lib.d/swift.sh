# shellcheck shell=bash
# What 'up --with swift' adds: the object store, one replica of everything on one directory.
# Sourced by all-in-one.

# shellcheck disable=SC2034  # used by extras.sh and services.sh
SWIFT=(swift-account swift-container swift-object swift-proxy)
SWIFT_DATA=$LIB/swift

# swift_server KIND PORT : configuration of a storage server.
swift_server() {
  put "$ETC/swift/$1-server.conf" <<X
[DEFAULT]
bind_ip = $IP
bind_port = $2
workers = 0
user = root
swift_dir = $ETC/swift
devices = $SWIFT_DATA
mount_check = false
fallocate_reserve = 0
log_level = WARNING
[pipeline:main]
pipeline = $1-server
[app:$1-server]
use = egg:swift#$1
replication_server = false
X
}

# A ring says on which device a name is: here always on the same.
swift_ring() {
  local builder=$SWIFT_DATA/$1.builder
  [ ! -e "$ETC/swift/$1.ring.gz" ] || return 0
  rm -f "$builder"
  { swift-ring-builder "$builder" create 2 1 1 && swift-ring-builder "$builder" add "r1z1-$IP:$2/device" 1 &&
    swift-ring-builder "$builder" rebalance && swift-ring-builder "$builder" write_ring; } >/dev/null &&
    mv "$SWIFT_DATA/$1.ring.gz" "$ETC/swift/"
}

config_swift() {
  mkdir -p "$ETC/swift" "$SWIFT_DATA/device"
  swift_ring account 6202 && swift_ring container 6201 && swift_ring object 6200 || return
  swift_server account 6202 && swift_server container 6201 && swift_server object 6200 || return
  put "$ETC/swift/proxy-server.conf" <<X
[DEFAULT]
bind_ip = $IP
bind_port = 8080
workers = 0
user = root
swift_dir = $ETC/swift
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats authtoken keystoneauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:cache]
use = egg:swift#memcache
memcache_servers = $IP:11211
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, service
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
delay_auth_decision = true
$(config_authtoken swift | grep -v '^\[')
X
}

# The servers write to the system's log alone; without one, to what is their standard error.
launch_swift() { launch "$1" "$1-server" "$ETC/swift/${1#swift-}-server.conf" --verbose; }
