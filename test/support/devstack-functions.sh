# shellcheck shell=bash
# What devstack's functions do for a plugin, on a machine that is no devstack: the few that ours calls. Sourced by a test, which
# sets STATE, a directory for what they do.

sudo() { "$@"; }
die() { printf '%s\n' "${*:2}" >&2; exit 1; }
define_plugin() { echo "$1" >>"$STATE/plugins"; }
enable_service() { echo "$1" >>"$STATE/services"; }
is_service_enabled() { grep -qx "$1" "$STATE/services"; }
install_package() { printf '%s\n' "$@" >>"$STATE/packages"; }
restart_service() { echo "$1" >>"$STATE/restarted"; }
npm() { echo "$*" >>"$STATE/npm"; }

# iniset FILE SECTION OPTION VALUE : for a file that has no other section.
iniset() {
  [ -s "$1" ] || printf '[%s]\n' "$2" >>"$1"
  grep -qx "\[$2\]" "$1" || die 0 "$1 has another section"
  sed -i "/^$3 = /d" "$1"
  printf '%s = %s\n' "$3" "$4" >>"$1"
}

# run_process NAME COMMAND [GROUP] [USER]
run_process() {
  local command
  read -ra command <<<"$2"
  setsid "${command[@]}" >"$STATE/$1.log" 2>&1 &
  echo $! >"$STATE/$1.pid"
}

stop_process() {
  echo "$1" >>"$STATE/stopped"
  [ -e "$STATE/$1.pid" ] || return 0
  kill "$(cat "$STATE/$1.pid")"
  while kill -0 "$(cat "$STATE/$1.pid")" 2>/dev/null; do sleep 0.1; done
}

# wait_for_service SECONDS URL
wait_for_service() { timeout "$1" sh -c "until curl -sf -o /dev/null --noproxy '*' $2; do sleep 0.2; done"; }
