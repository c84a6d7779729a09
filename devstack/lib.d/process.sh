# shellcheck shell=bash
# Starting and stopping one daemon, with systemd (a transient unit) or without (a session
# of its own). Sourced by all-in-one.
#
# Every daemon is started with PREBAKE_CLOUD_SERVICE=<cloud>:<name> in an otherwise clean
# environment, which its children inherit: whatever carries the mark is ours to count and
# to stop, however far it has daemonised. A zombie has no environment, so it never counts.

has_systemd() { [ -d /run/systemd/system ]; }

# pids_of NAME... : every living process of these services.
pids_of() {
  local name patterns=()
  for name in "$@"; do patterns+=(-e "PREBAKE_CLOUD_SERVICE=$CLOUD:$name"); done
  grep -lzxF "${patterns[@]}" /proc/[0-9]*/environ 2>/dev/null | sed 's,^/proc/\([0-9]*\)/.*,\1,'
}

main_pid() {
  local pid
  pid=$(cat "$RUN/$1.pid" 2>/dev/null) || return 1
  grep -qzxF "PREBAKE_CLOUD_SERVICE=$CLOUD:$1" "/proc/$pid/environ" 2>/dev/null || return 1
  printf '%s' "$pid"
}

running() { main_pid "$1" >/dev/null; }

# launch NAME COMMAND... : returns as soon as the process exists. KEEP_CHILDREN=1 leaves its
# children alone when it stops (libvirtd: guests outlive it).
launch() {
  local name=$1 unit=prebake-cloud-$1
  shift
  # SPT_NOENV: Neutron's process titles must not be written over the environment, and the mark.
  local environment=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 SPT_NOENV=1
    "PREBAKE_CLOUD_SERVICE=$CLOUD:$name")
  # The shell writes its own pid and becomes the daemon: no window in which the pid is unknown.
  # shellcheck disable=SC2016
  local become=(/bin/sh -c 'echo $$ >"$0" && exec "$@"' "$RUN/$name.pid" "$@")
  rm -f "$RUN/$name.pid"
  if has_systemd; then
    local settings=() setting
    for setting in "${environment[@]}"; do settings+=(--setenv="$setting"); done
    if [ -n "${KEEP_CHILDREN:-}" ]; then
      settings+=(--property=KillMode=process)
      unit+=-$EPOCHSECONDS # children left behind hold on to the name of the last one
    fi
    wait_until 10 unit_is_free "$unit" || true
    systemd-run --quiet --collect --unit="$unit" --description="prebake's cloud: $name" "${settings[@]}" \
      --property=TimeoutStopSec=30 --property=LimitNOFILE=65536 \
      --property=StandardOutput=append:"$LOG/$name.out" --property=StandardError=append:"$LOG/$name.out" \
      -- "${become[@]//\$/\$\$}" # systemd takes a lone dollar for a variable of its own
  else
    (
      close_descriptors
      exec setsid env -i "${environment[@]}" "${become[@]}" </dev/null >>"$LOG/$name.out" 2>&1
    ) &
    disown
  fi
  wait_until 10 test -s "$RUN/$name.pid" || return 1
}

# A daemon must not hold on to what whoever called us had open: a lock, a pipe, our own lock.
close_descriptors() {
  local descriptor
  for descriptor in /proc/self/fd/*; do
    descriptor=${descriptor##*/}
    [ "$descriptor" -le 2 ] || eval "exec $descriptor>&-" 2>/dev/null
  done
}

# systemd forgets a transient unit a moment after its last process.
unit_is_free() { [ "$(systemctl show --property=LoadState --value "$1.service")" = not-found ]; }

# wait_until SECONDS COMMAND... : the one place where we poll.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

port_open() { (exec 3<>"/dev/tcp/$IP/$1") 2>/dev/null; }

# halt NAME [SECONDS] : TERM to the daemon, KILL to what is left of it after the grace.
halt() {
  local name=$1 grace=${2:-20} pid pids
  if pid=$(main_pid "$name"); then kill -TERM "$pid" 2>/dev/null || true; fi
  wait_until "$grace" not running "$name" || true
  # Helpers that outlive it (dnsmasq, epmd's children, workers) carry its mark.
  pids=$(pids_of "$name")
  # shellcheck disable=SC2086
  [ -z "$pids" ] || kill -TERM $pids 2>/dev/null || true
  if ! wait_until 5 gone "$name"; then
    pids=$(pids_of "$name")
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
    wait_until 5 gone "$name" || true
  fi
  rm -f "$RUN/$name.pid"
}

not() { ! "$@"; }
gone() { [ -z "$(pids_of "$1")" ]; }

# memory_of NAME : proportional memory of all its processes, in MiB.
memory_of() {
  local pid
  for pid in $(pids_of "$1"); do
    sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' "/proc/$pid/smaps_rollup" 2>/dev/null
  done | awk '{kib += $1} END {printf "%d", kib / 1024}'
}
