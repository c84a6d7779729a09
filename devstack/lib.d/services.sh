# shellcheck shell=bash
# The daemons of the cloud: how each is started, when it is ready, what it listens on, and
# in which order they go up and down. Sourced by all-in-one.

# Each group needs the ones before it.
INFRASTRUCTURE=(mariadb memcached epmd rabbitmq virtlogd libvirtd)
CONTROL=(keystone glance-api placement neutron-server nova-conductor nova-scheduler nova-api nova-novncproxy)
# An agent that asks before neutron-server can hear waits a minute for the answer.
AGENTS=(neutron-linuxbridge neutron-dhcp)

declare -A PORTS=([mariadb]=3306 [memcached]=11211 [epmd]=4369 [rabbitmq]='5672 25672' [keystone]=5000
  [glance-api]=9292 [placement]=8778 [neutron-server]=9696 [nova-api]=8774 [nova-novncproxy]=6080 [horizon]=8088
  [prebake-compute]=8790 [barbican]=9311 [swift-proxy]=8080 [swift-account]=6202 [swift-container]=6201 [swift-object]=6200)

# A daemon older than one of these files is started again by up.
declare -A SETTINGS=([mariadb]="my.cnf" [rabbitmq]="rabbitmq/rabbitmq.conf" [libvirtd]="libvirtd.conf qemu.conf"
  [keystone]="keystone/keystone.conf" [glance-api]="glance-api.conf" [placement]="placement/placement.conf"
  [neutron-server]="neutron.conf ml2.ini" [nova-conductor]="nova.conf" [nova-scheduler]="nova.conf"
  [nova-api]="nova.conf" [nova-novncproxy]="nova.conf" [neutron-linuxbridge]="neutron.conf ml2.ini linuxbridge.ini"
  [neutron-dhcp]="neutron.conf dhcp.ini" [nova-compute]="stock-compute.conf" [libvirtd-stock]="libvirtd.conf qemu.conf"
  [neutron-linuxbridge-stock]="neutron.conf ml2.ini stock-linuxbridge.ini" [swift-proxy]="swift/proxy-server.conf"
  [barbican]="barbican/.barbican/barbican.conf")

# The services of this cloud: those of an extra once it has been asked for.
# The compute service of this host, ours or the stock one in its place, belongs to it while it runs: up does not
# start it, down stops it.
COMPUTE_SERVICES=(prebake-compute nova-compute-in-place)
all_services() {
  local name
  printf '%s\n' "${INFRASTRUCTURE[@]}" "${CONTROL[@]}" "${AGENTS[@]}" && extra_services
  for name in "${COMPUTE_SERVICES[@]}"; do
    [ ! -e "$RUN/$name.pid" ] || echo "$name"
  done
}

is_service() { { printf '%s\n' "${COMPUTE_SERVICES[@]}" && all_services; } | grep -x -- "$1" >/dev/null; }

# wsgi NAME PORT SCRIPT [VARIABLE=VALUE...] [-- UWSGI-OPTION...]
# uwsgi hangs up after each answer without saying so, which clients that keep connections
# see as a reset: it has to say so.
wsgi() {
  local name=$1 port=$2 script=$3 environment=()
  shift 3
  while [ $# -gt 0 ] && [ "$1" != -- ]; do environment+=("$1") && shift; done
  [ $# -eq 0 ] || shift
  launch "$name" env "${environment[@]}" uwsgi --http-socket "$IP:$port" --plugin python3 --wsgi-file "$script" \
    --master --processes 1 --threads 4 --enable-threads --die-on-term --need-app --lazy-apps \
    --buffer-size 65535 --add-header 'Connection: close' "$@"
}

launch_mariadb() {
  chown mysql:mysql "$LIB/mysql"
  [ -d "$LIB/mysql/mysql" ] ||
    mariadb-install-db --defaults-file="$ETC/my.cnf" --user=mysql --skip-test-db >/dev/null || return
  launch mariadb mariadbd --defaults-file="$ETC/my.cnf"
}

# The broker's own start of epmd would listen on every address: ours comes first.
launch_epmd() { launch epmd setpriv --reuid rabbitmq --regid rabbitmq --init-groups epmd -address "$IP"; }

launch_rabbitmq() {
  local environment
  mapfile -t environment < <(rabbit_environment)
  launch rabbitmq setpriv --reuid rabbitmq --regid rabbitmq --init-groups env "${environment[@]}" \
    RUNNING_UNDER_SYSTEMD=true RABBITMQ_SERVER_ERL_ARGS='+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none' \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    /usr/lib/rabbitmq/bin/rabbitmq-server
}

# A machine's own libvirtd is used as it is; ours sees our qemu.conf in place of /etc's.
foreign_libvirtd() { ! running libvirtd && timeout 10 virsh -q -c qemu:///system version >/dev/null 2>&1; }

launch_libvirtd() {
  mkdir -p /run/libvirt
  # shellcheck disable=SC2016
  KEEP_CHILDREN=1 launch libvirtd unshare --mount --propagation slave /bin/sh -c \
    'mount --bind "$1" /etc/libvirt/qemu.conf && exec libvirtd --config "$2"' \
    libvirtd "$ETC/qemu.conf" "$ETC/libvirtd.conf"
}

# libvirtd looks for hooks when it starts: the file has to be there before.
install_hook() {
  local hook=/etc/libvirt/hooks/qemu.d/prebake source=$DEVSTACK/../drivers/libvirt/hook/prebake
  mkdir -p "${hook%/*}"
  if [ -f "$source" ]; then
    put "$hook" 755 <"$source"
  elif [ ! -e "$hook" ]; then
    printf '#!/bin/sh\nexit 0\n' | put "$hook" 755
  fi
}

# ebtables-nft cannot delete the ARP rules this agent makes (exit 4): after the first port
# deletion it would retry for ever and wire nothing more. This agent alone gets an ebtables
# that does nothing; the guests of this cloud are not protected against ARP spoofing.
launch_linuxbridge() {
  # shellcheck disable=SC2016
  launch "$1" unshare --mount --propagation slave /bin/sh -c \
    'mount -t tmpfs tmpfs /usr/local/sbin && ln -s /bin/true /usr/local/sbin/ebtables && shift && exec "$@"' \
    linuxbridge -- env PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin neutron-linuxbridge-agent \
    --config-file "$ETC/neutron.conf" --config-file "$ETC/ml2.ini" --config-file "$ETC/$2"
}

# The service as this checkout has it built.
launch_prebake_compute() {
  local main
  main=$(readlink -m "$DEVSTACK/../dist/lib/main.js")
  [ -n "$NODE" ] || { echo "there is no node on the PATH" >&2 && return 1; }
  [ -e "$main" ] || { echo "there is no $main: run npm run build" >&2 && return 1; }
  launch prebake-compute "$NODE" "$main" --config-file "$ETC/nova-compute.conf"
}

# Debian's nova-compute as the very host that is otherwise ours: same nova.conf, same libvirtd.
launch_nova_compute_in_place() {
  install_wanted "${PACKAGES_NOVA_COMPUTE[@]}" >>"$LOG/setup-packages.log" 2>&1 || return
  launch nova-compute-in-place nova-compute --config-file "$ETC/nova-compute.conf"
}

launch_service() {
  case $1 in
    mariadb | epmd | rabbitmq | libvirtd) "launch_$1" ;;
    memcached) launch memcached memcached -u nobody -l "$IP" -p 11211 -U 0 -m 64 ;;
    virtlogd) launch virtlogd virtlogd ;;
    keystone) wsgi keystone 5000 /usr/bin/keystone-wsgi-public \
      OS_KEYSTONE_CONFIG_DIR="$ETC/keystone" OS_KEYSTONE_CONFIG_FILES=keystone.conf ;;
    glance-api) launch glance-api glance-api --config-file "$ETC/glance-api.conf" ;;
    placement) wsgi placement 8778 /usr/bin/placement-api OS_PLACEMENT_CONFIG_DIR="$ETC/placement" ;;
    neutron-server) launch neutron-server neutron-server --config-file "$ETC/neutron.conf" --config-file "$ETC/ml2.ini" ;;
    neutron-linuxbridge) launch_linuxbridge neutron-linuxbridge linuxbridge.ini ;;
    neutron-linuxbridge-stock) launch_linuxbridge neutron-linuxbridge-stock stock-linuxbridge.ini ;;
    neutron-dhcp) launch neutron-dhcp neutron-dhcp-agent --config-file "$ETC/neutron.conf" --config-file "$ETC/dhcp.ini" ;;
    nova-conductor | nova-scheduler | nova-api) launch "$1" "$1" --config-file "$ETC/nova.conf" ;;
    nova-novncproxy) launch nova-novncproxy nova-novncproxy --config-file "$ETC/nova.conf" --web /usr/share/novnc ;;
    virtlogd-stock | libvirtd-stock | nova-compute) launch_stock "$1" ;;
    horizon) launch_horizon ;;
    swift-*) launch_swift "$1" ;;
    barbican) launch_barbican ;;
    prebake-compute) launch_prebake_compute ;;
    nova-compute-in-place) launch_nova_compute_in_place ;;
  esac
}

# talks_to_broker NAME [TITLE] : a daemon without a port is ready when one of its processes
# (the one with this in its title) is connected to the broker.
talks_to_broker() {
  local pid connections
  connections=$(ss -Htnp state established 'dport = :5672')
  for pid in $(pids_of "$1"); do
    grep -qzF -- "${2:-}" "/proc/$pid/cmdline" 2>/dev/null && [[ $connections = *"pid=$pid,"* ]] && return
  done
  return 1
}

is_ready() {
  local port
  case $1 in
    mariadb) sql <<<'select 1' >/dev/null 2>&1 ;;
    libvirtd) timeout 10 virsh -q -c qemu:///system version >/dev/null 2>&1 ;;
    # Their port is open before the application is loaded: only an answer counts.
    swift-proxy) curl -sf -o /dev/null --max-time 60 "http://$IP:${PORTS[$1]}/healthcheck" ;;
    keystone | placement | horizon | barbican) curl -s -o /dev/null --max-time 60 "http://$IP:${PORTS[$1]}/" ;;
    neutron-server) port_open 9696 && talks_to_broker neutron-server 'rpc worker' ;;
    prebake-compute) curl -sf -o /dev/null --max-time 10 "http://$IP:${PORTS[$1]}/readyz" ;;
    libvirtd-stock) timeout 10 virsh -q -c "$STOCK_URI" version >/dev/null 2>&1 ;;
    virtlogd) [ -S /run/libvirt/virtlogd-sock ] ;;
    virtlogd-stock) [ -S "$STOCK_LIBVIRT/run/virtlogd-sock" ] ;;
    nova-conductor | nova-scheduler | nova-compute | nova-compute-in-place | neutron-linuxbridge* | neutron-dhcp) talks_to_broker "$1" ;;
    *) for port in ${PORTS[$1]}; do port_open "$port" || return; done ;;
  esac
}

ready_or_dead() { ! running "$1" || is_ready "$1"; }

stale() {
  local file
  for file in ${SETTINGS[$1]:-}; do
    [ ! "$ETC/$file" -nt "$RUN/$1.pid" ] || return 0
  done
  return 1
}

# Someone else on our port would be mistaken for our service.
refuse_taken_ports() {
  local port holder
  for port in ${PORTS[$1]:-}; do
    port_open "$port" || continue
    holder=$(ss -Hltnp "sport = :$port" | sed -n 's/.*users:((\(.*\)).*/\1/p' | head -n 1)
    echo "port $port of $1 is taken by ${holder:-another program}: stop that and run up again" >&2
    return 1
  done
}

# start_service NAME : returns when it is ready; says nothing when it already was.
start_service() {
  local name=$1 begin=$EPOCHREALTIME log
  if running "$name" && stale "$name"; then halt "$name"; fi
  if running "$name" && is_ready "$name"; then return; fi
  case $name in
    virtlogd | libvirtd) if foreign_libvirtd; then return; fi ;;
  esac
  if ! running "$name"; then
    halt "$name" 0 # what a killed daemon left behind
    : >"$LOG/$name.out"
    if ! { refuse_taken_ports "$name" && launch_service "$name"; } 2>>"$LOG/$name.out"; then
      show_log "$LOG/$name.out"
      return 1
    fi
  fi
  if wait_until 120 ready_or_dead "$name" && running "$name" && is_ready "$name"; then
    report "$name" "$begin"
    return
  fi
  printf '  %.28s failed\n' "$name ............................"
  for log in "$LOG/$name.out" "$LOG/$name.log" "$LOG/$name-agent.log"; do show_log "$log"; done
  return 1
}

start_services() {
  local name pids=()
  for name in "$@"; do start_service "$name" & pids+=($!); done
  wait_all "${pids[@]}"
}

stop_services() {
  local name pids=()
  for name in "$@"; do
    [ -n "$(pids_of "$name")" ] || { rm -f "$RUN/$name.pid"; continue; }
    { begin=$EPOCHREALTIME; halt "$name" "$([ "$name" = rabbitmq ] && echo 40 || echo 20)"; report "$name" "$begin"; } &
    pids+=($!)
  done
  [ "${#pids[@]}" -eq 0 ] || wait_all "${pids[@]}"
}
