# shellcheck shell=bash
# What `npm test` and `npm run demo` need before anything of npm can run: checks the machine, installs the
# compiler that lz4 is built with, and the locked dependencies. Sourced by test/run and devstack/demo.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# pyenv and its like come before Debian's python3 on some machines; the cloud is made of Debian's. Node stays the
# caller's: Debian packages bring an older one along (novnc does).
keep_node() {
  local bin=$ROOT/dist/bin tool path
  mkdir -p "$bin"
  for tool in node npm npx; do
    path=$(command -v "$tool") || continue
    [ "$path" = "$bin/$tool" ] || ln -sfn "$path" "$bin/$tool"
  done
  export PATH=$bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
}
keep_node
# libvirt calls each hold a thread while they wait.
export UV_THREADPOOL_SIZE=${UV_THREADPOOL_SIZE:-32}
BUILD_PACKAGES=(python3 make g++) # for lz4

# stop CAUSE FIX : every error says what to do about it.
stop() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2
  exit 1
}

seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f", b - a}'; }

# step NAME COMMAND... : shows the command's output, then its name, result and seconds.
step() {
  local name=$1 begin=$EPOCHREALTIME
  shift
  printf -- '==> %s\n' "$name"
  if "$@"; then
    printf -- '    %s: done in %s s\n' "$name" "$(seconds_since "$begin")"
  else
    local code=$?
    printf -- '    %s: FAILED after %s s\n' "$name" "$(seconds_since "$begin")"
    return "$code"
  fi
}

require_machine() {
  local system
  # shellcheck disable=SC1091
  system=$(. /etc/os-release 2>/dev/null && printf '%s-%s' "$ID" "${VERSION_ID:-}")
  [ "$system" = debian-12 ] ||
    stop "this machine runs ${system:-an unknown system}; the OpenStack used here comes from Debian 12 packages" \
      "Use a Debian 12 (bookworm) machine, real or virtual, with 2 cores and 8 GiB of memory."
  [ "$(id -u)" = 0 ] ||
    stop "root is needed: packages, network namespaces and libvirt belong to the machine" \
      "Run it again as root. Without root there are: npm run unit, npm run lint, npm run typecheck."
  local major
  major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) ||
    stop "node does not run" "Install Node 20 or newer, with npm."
  [ "$major" -ge 20 ] || stop "node is version $major" "Install Node 20 or newer."
  command -v npm >/dev/null || stop "npm is missing" "Install the npm that belongs to this node."
  command -v git >/dev/null || stop "git is missing" "apt-get install git"
}

# Headers that came with this node spare node-gyp a download: prints their place, if they fit.
local_node_headers() {
  local prefix version
  prefix=$(node -p 'require("node:path").dirname(require("node:path").dirname(process.execPath))')
  version=$(node -p 'process.versions.node.split(".")[0]')
  if grep -qs "define NODE_MAJOR_VERSION $version\$" "$prefix/include/node/node_version.h"; then echo "$prefix"; fi
}

# install_packages PACKAGE... : those of them that are missing.
install_packages() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = 'ii ' ] || missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  echo "    installing ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends
    -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
  "${apt[@]}" update >/dev/null || true # a third-party source that is away must not stop us
  "${apt[@]}" install "${missing[@]}" >/dev/null ||
    stop "apt-get could not install ${missing[*]}" "See what it said above; the machine needs its Debian mirror."
}

# One line that changes when the installed dependencies no longer fit.
dependency_stamp() {
  printf '%s %s %s\n' "$(sha256sum <"$ROOT/package-lock.json" | cut -c1-64)" "$(node -p process.version)" "$(uname -m)"
}

install_dependencies() {
  local stamp=$ROOT/node_modules/.prebake-stamp nodedir
  exec 8>"/run/lock/prebake-npm-$(printf %s "$ROOT" | sha256sum | cut -c1-12)"
  flock 8
  if [ "$(cat "$stamp" 2>/dev/null)" != "$(dependency_stamp)" ]; then
    install_packages "${BUILD_PACKAGES[@]}"
    nodedir=${npm_config_nodedir:-$(local_node_headers)}
    (
      cd "$ROOT" && exec 8>&-
      [ -z "$nodedir" ] || export npm_config_nodedir=$nodedir
      npm ci --no-progress --loglevel=error
    ) ||
      stop "npm ci failed" "See what it said above; it needs the npm registry, and node's headers to build lz4."
    dependency_stamp >"$stamp"
  fi
  exec 8>&-
}

bootstrap() {
  require_machine
  step dependencies install_dependencies
}
