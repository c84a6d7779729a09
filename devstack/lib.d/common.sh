# shellcheck shell=bash
# What every part of all-in-one uses: places, plain errors, timed steps, secrets, and
# files that are rewritten only when their content changes. Sourced by all-in-one.

# shellcheck disable=SC2034  # used by the other parts
CLOUD=${PREBAKE_CLOUD:-/srv/prebake-cloud}
ETC=$CLOUD/etc LOG=$CLOUD/log RUN=$CLOUD/run LIB=$CLOUD/lib IMAGES=$CLOUD/images
IP=127.0.0.1
COMPUTE_HOST=prebake
STOCK_HOST=stock-compute

# fail CAUSE FIX : every error says what to do about it.
fail() {
  printf 'all-in-one: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2
  exit 1
}

require_machine() {
  local id='' VERSION_ID='' PRETTY_NAME='an unknown system'
  if [ -r /etc/os-release ]; then
    # shellcheck disable=SC1091
    . /etc/os-release
    id=${ID:-}
  fi
  [ "$id-$VERSION_ID" = debian-12 ] ||
    fail "this machine runs $PRETTY_NAME; the cloud is made of Debian 12 packages" \
      "Use a Debian 12 (bookworm) machine, real or virtual, with 2 cores and 8 GiB of memory."
  [ "$(id -u)" = 0 ] ||
    fail "root is needed: packages, network namespaces and libvirt are the machine's own" \
      "Run it again as root, for instance with sudo."
  case $CLOUD in
    /*[!A-Za-z0-9/._-]* | [!/]*) fail "PREBAKE_CLOUD=$CLOUD is not a plain absolute path" \
      "Choose a path of letters, digits, '/', '.', '_' and '-'." ;;
    / | /etc* | /usr* | /var | /home | /root) fail "PREBAKE_CLOUD=$CLOUD would be emptied by wipe" \
      "Choose a directory of its own, such as /srv/prebake-cloud." ;;
  esac
}

make_places() {
  mkdir -p "$ETC" "$LOG" "$RUN" "$LIB/stamps" "$IMAGES"
  chmod 755 "$CLOUD" "$ETC" "$RUN" "$LIB"
  chmod 1777 "$RUN" # mariadb, as its own user, keeps its socket here
}

# One all-in-one at a time changes the cloud. The descriptor is closed in every service.
lock_cloud() {
  exec 9>"$RUN/lock"
  flock -n 9 && return
  echo "another all-in-one is at work here: waiting for it" >&2
  flock -w 900 9 || fail "another all-in-one still holds $RUN/lock" "See what it does: fuser -v $RUN/lock"
}

seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f", b - a}'; }

report() { printf '  %.28s %6s s\n' "$1 ............................" "$(seconds_since "$2")"; }

# The end of a log is what one looks at first.
show_log() {
  [ -s "$1" ] || return 0
  printf -- '--- last lines of %s\n' "$1" >&2
  tail -n "${2:-15}" "$1" >&2
}

# step NAME COMMAND... : runs it with its output in log/setup-NAME.log and prints its time.
step() {
  local name=$1 begin=$EPOCHREALTIME log
  shift
  log=$LOG/setup-${name// /-}.log
  if "$@" >"$log" 2>&1 9>&-; then
    report "$name" "$begin"
  else
    printf '  %.28s failed\n' "$name ............................"
    show_log "$log"
    return 1
  fi
}

# wait_all PID... : waits for every one, fails if any failed.
wait_all() {
  local pid bad=0
  for pid in "$@"; do wait "$pid" || bad=1; done
  return "$bad"
}

# Signals our own background steps and what they started, deepest first.
stop_steps() {
  local pid
  for pid in "$@"; do
    # shellcheck disable=SC2046
    stop_steps $(pgrep -P "$pid")
    kill "$pid" 2>/dev/null || true
  done
}

# put FILE [MODE] : standard input becomes FILE, touched only if that changes it.
put() {
  local file=$1 mode=${2:-600} new
  new=$(mktemp "$file.XXXXXX")
  cat >"$new"
  chmod "$mode" "$new"
  if cmp -s "$new" "$file"; then rm -f "$new"; else mv "$new" "$file"; fi
}

# Passwords belong to one cloud, are made once, and leave it only through openrc.
load_secrets() {
  local name
  [ -e "$ETC/secrets" ] || install -m 600 /dev/null "$ETC/secrets"
  for name in ADMIN SERVICE DATABASE RABBIT METADATA DASHBOARD BARBICAN; do
    grep -q "^${name}_PASSWORD=" "$ETC/secrets" ||
      printf '%s_PASSWORD=%s\n' "$name" "$(openssl rand -hex 16)" >>"$ETC/secrets"
  done
  # shellcheck disable=SC1091
  . "$ETC/secrets"
}

# A stamp holds what a step was last done for (a package version): done once per value.
stamped() { [ "$(cat "$LIB/stamps/$1" 2>/dev/null)" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$LIB/stamps/$1"; }
package_version() { dpkg-query -W -f '${Version}' "$1"; }
